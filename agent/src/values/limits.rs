//! Values of policies: bytes that may be 0, and growth per time.

use super::{ValueError, duration};

/// A number of bytes, also 0: `0`, `64B`, `1.5KiB`.
pub fn bytes(text: &str) -> Result<f64, ValueError> {
    let unit = text.trim().trim_start_matches(['0', '.']).trim();
    if text.trim().starts_with('0') && matches!(unit, "" | "B" | "b") {
        return Ok(0.0);
    }
    super::bytes(text).map(|bytes| bytes as f64)
}

/// Bytes per second: `1MiB/min`, `64KiB/s`, `2GiB/d`, `0/s`.
pub fn growth(text: &str) -> Result<f64, ValueError> {
    let error = || ValueError::new(text, "a growth: bytes per s, min, h or d, as in 1MiB/min");
    let (amount, time) = text.split_once('/').ok_or_else(error)?;
    let time = time.trim();
    if !time.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(error());
    }
    let seconds = duration(&format!("1{time}")).map_err(|_| error())?;
    Ok(bytes(amount).map_err(|_| error())? / seconds.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_limit_too() {
        for zero in ["0", "0B", "0 B", "0.0"] {
            assert_eq!(bytes(zero), Ok(0.0), "{zero}");
        }
        assert_eq!(bytes("64B"), Ok(64.0));
        assert_eq!(bytes("0.5KiB"), Ok(512.0));
        for bad in ["", "B", "-1", "0x", "much", "0.5"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn growth_has_a_time() {
        assert_eq!(growth("60MiB/min"), Ok(1_048_576.0));
        assert_eq!(growth("1KiB / s"), Ok(1024.0));
        assert_eq!(growth("3600/h"), Ok(1.0));
        assert_eq!(growth("0/s"), Ok(0.0));
        for bad in [
            "1MiB",
            "1MiB/",
            "/s",
            "1MiB/5",
            "1MiB/week",
            "1MiB/1h",
            "1MiB/min/s",
        ] {
            assert_eq!(
                growth(bad).unwrap_err().to_string(),
                format!("`{bad}` is not a growth: bytes per s, min, h or d, as in 1MiB/min")
            );
        }
    }
}
