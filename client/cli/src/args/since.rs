//! How far back: `--since 10m`.

/// Seconds; "start" is all there is.
pub(super) fn since(text: &str) -> Result<f64, String> {
    const WAYS: &str = "write 30s, 10m, 2h, 1d or start";
    if text == "start" {
        return Ok(f64::INFINITY);
    }
    let unit = match text.chars().last() {
        Some('s') => 1.0,
        Some('m') => 60.0,
        Some('h') => 3600.0,
        Some('d') => 86_400.0,
        _ => return Err(WAYS.to_owned()),
    };
    match text[..text.len() - 1].parse::<f64>() {
        Ok(count) if count > 0.0 && count.is_finite() => Ok(count * unit),
        _ => Err(WAYS.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_a_unit() {
        for (text, seconds) in [
            ("30s", 30.0),
            ("10m", 600.0),
            ("1.5h", 5400.0),
            ("2d", 172_800.0),
            ("start", f64::INFINITY),
        ] {
            assert_eq!(since(text), Ok(seconds), "{text}");
        }
        for text in ["", "10", "m", "-1m", "0s", "infm", "nanh", "10 µ", "1y"] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}
