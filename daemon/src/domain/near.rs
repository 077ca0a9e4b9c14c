//! A name that is not there, and the one that was meant.

/// The nearest of some names, if one is near.
pub fn nearest<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = names.map(|name| (edits(asked, name), name)).min()?;
    (distance <= 1 + asked.len() / 4).then_some(name)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, left) in a.bytes().enumerate() {
        let mut before = row[0];
        row[0] = at + 1;
        for (to, right) in b.bytes().enumerate() {
            let change = before + usize::from(left != right);
            before = row[to + 1];
            row[to + 1] = change.min(before + 1).min(row[to] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_meant() {
        let names = || ["socket", "tcp", "socket_mode"].into_iter();
        assert_eq!(nearest("sockt", names()), Some("socket"));
        assert_eq!(nearest("soket_mode", names()), Some("socket_mode"));
        assert_eq!(nearest("colour", names()), None);
    }
}
