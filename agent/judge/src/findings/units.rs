//! Bytes and numbers in sentences.

/// `1.9 KiB`.
pub(crate) fn bytes(value: f64) -> String {
    let mut value = value.max(0.0);
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" {
                format!("{value:.0} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `9 days`, `1 h 40 min`, `12 min`, `30 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let minutes = seconds / 60.0;
    let hours = minutes / 60.0;
    let days = hours / 24.0;
    if days >= 730.0 {
        "over 2 years".to_owned()
    } else if days >= 3.0 {
        format!("{days:.0} days")
    } else if hours >= 1.0 {
        let whole = hours.floor();
        format!("{whole:.0} h {:.0} min", (minutes - 60.0 * whole).floor())
    } else if minutes >= 2.0 {
        format!("{minutes:.0} min")
    } else {
        format!("{:.0} s", seconds.max(0.0))
    }
}

/// `12,410`.
pub(crate) fn number(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{bytes, duration, number};

    #[test]
    fn figures_read_well() {
        assert_eq!(number(12_410.2), "12,410");
        assert_eq!(number(999.0), "999");
        assert_eq!(bytes(1_945.6), "1.9 KiB");
        assert_eq!(bytes(12.0), "12 B");
        assert_eq!(duration(42.0), "42 s");
        assert_eq!(duration(6_000.0), "1 h 40 min");
        assert_eq!(duration(604_800.0), "7 days");
    }
}
