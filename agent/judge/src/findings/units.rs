//! Bytes and numbers in sentences.

/// `1.9 KiB`.
pub(super) fn bytes(value: f64) -> String {
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

/// `12,410`.
pub(super) fn number(value: f64) -> String {
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
    use super::{bytes, number};

    #[test]
    fn figures_read_well() {
        assert_eq!(number(12_410.2), "12,410");
        assert_eq!(number(999.0), "999");
        assert_eq!(bytes(1_945.6), "1.9 KiB");
        assert_eq!(bytes(12.0), "12 B");
    }
}
