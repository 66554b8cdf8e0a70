//! Lists in settings: items with commas, spaces or line breaks between them.

/// The items of a list, without the empty ones that a trailing or doubled comma makes.
pub fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| letter == ',' || letter.is_whitespace())
        .filter(|item| !item.is_empty())
}

/// Keeps the first of equal items, in their order.
pub fn drop_repeats(items: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    items.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_spaces_and_line_breaks_separate_items() {
        for text in [
            "a,b,c",
            "a b c",
            "a, b, c",
            " a ,b\t,, c,",
            "a\nb\r\nc\n",
            "a;b".replace(';', ",").as_str(),
        ] {
            let found: Vec<_> = items(text).collect();
            assert!(["a", "b", "c"].starts_with(&found), "{text:?}: {found:?}");
        }
        assert_eq!(items(" , ,\n").count(), 0);
    }

    #[test]
    fn equal_items_count_once() {
        let mut items = ["b", "a", "b", "a"].map(str::to_owned).to_vec();
        drop_repeats(&mut items);
        assert_eq!(items, ["b", "a"]);
    }
}
