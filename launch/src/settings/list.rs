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
        for text in ["a,b,c", "a b c", "a, b, c", " a ,b\t,, c,", "a\nb\r\nc\n"] {
            assert!(items(text).eq(["a", "b", "c"]), "{text:?}");
        }
        assert_eq!(items(" , ,\n").count(), 0);
    }
}
