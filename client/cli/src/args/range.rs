//! From where to where: `--iters 100..200`.

/// Both ends are in it; one that is not said is as far as there is.
pub(super) fn range(text: &str) -> Result<(Option<u64>, Option<u64>), String> {
    const WAYS: &str = "write 100..200, 100.., ..200 or 100; both ends are in it";
    let bound = |text: &str| match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| WAYS.to_owned()),
    };
    let range = match text.split_once("..") {
        Some((from, to)) => (bound(from)?, bound(to)?),
        None => (bound(text)?, bound(text)?),
    };
    match range {
        (None, None) => Err(WAYS.to_owned()),
        (Some(from), Some(to)) if from > to => Err("it ends before it begins".to_owned()),
        range => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_one_end_at_least() {
        for (text, wanted) in [
            ("1..20", (Some(1), Some(20))),
            ("5..", (Some(5), None)),
            ("..7", (None, Some(7))),
            ("3", (Some(3), Some(3))),
        ] {
            assert_eq!(range(text), Ok(wanted), "{text}");
        }
        for text in ["", "..", "a..b", "5..4", "-1..3", "1...3"] {
            assert!(range(text).is_err(), "{text}");
        }
    }
}
