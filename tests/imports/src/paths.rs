//! The paths that a source file names, in `use` declarations and elsewhere, without its tests.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What a file names.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Each path with the modules inside the file that contain it.
    pub(crate) paths: Vec<(Vec<String>, Vec<String>)>,
    /// The paths that the file's own module re-exports.
    pub(crate) reexports: Vec<Vec<String>>,
    /// The modules that are compiled for tests only.
    pub(crate) test_modules: Vec<String>,
}

impl Named {
    /// Adds what these tokens name. `within` are the modules inside the file around them.
    pub(crate) fn read(&mut self, tokens: TokenStream, within: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += match (token, tokens.get(at + 1)) {
                (TokenTree::Punct(_), Some(TokenTree::Group(attribute)))
                    if is_punct(token, '#') && is_for_tests(&attribute.stream()) =>
                {
                    self.test_item(&tokens[at..])
                }
                (TokenTree::Ident(word), Some(next)) if word == "use" && !is_punct(next, '<') => {
                    let tree = tokens[at + 1..].split(|token| is_punct(token, ';')).next();
                    let tree = tree.unwrap_or_default();
                    let mut paths = Vec::new();
                    use_tree(tree, &[], &mut paths);
                    if within.is_empty() && is_public(&tokens[..at]) {
                        self.reexports.extend(paths.iter().cloned());
                    }
                    let paths = paths.into_iter().map(|path| (within.to_vec(), path));
                    self.paths.extend(paths);
                    1 + tree.len()
                }
                (TokenTree::Ident(word), Some(TokenTree::Ident(name))) if word == "mod" => {
                    if let Some(TokenTree::Group(body)) = tokens.get(at + 2) {
                        let within = [within, &[name.to_string()]].concat();
                        self.read(body.stream(), &within);
                    }
                    3
                }
                (TokenTree::Ident(_), _) => {
                    let path = path(&tokens[at..]);
                    let length = path.len();
                    if length > 1 {
                        self.paths.push((within.to_vec(), path));
                    }
                    3 * length - 2
                }
                // The rest of a path that begins with a type, or with the name of a crate.
                (TokenTree::Punct(_), Some(next)) if is_separator(token, next) => {
                    (3 * path(&tokens[at + 2..]).len()).max(2)
                }
                (TokenTree::Group(group), _) => {
                    self.read(group.stream(), within);
                    1
                }
                _ => 1,
            };
        }
    }

    /// Notes the module that begins at this attribute, and returns the length of the item.
    fn test_item(&mut self, tokens: &[TokenTree]) -> usize {
        let mut words = tokens.iter().filter_map(|token| match token {
            TokenTree::Ident(word) => Some(word.to_string()),
            _ => None,
        });
        let is_use = words.clone().find(|word| word != "pub") == Some("use".to_owned());
        let ends = |token: &TokenTree| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !is_use,
            token => is_punct(token, ';'),
        };
        let length = tokens
            .iter()
            .position(ends)
            .map_or(tokens.len(), |at| at + 1);
        if words.find(|word| word != "pub") == Some("mod".to_owned()) {
            self.test_modules.extend(words.next());
        }
        length
    }
}

/// All paths of a tree of `use`.
fn use_tree(tokens: &[TokenTree], prefix: &[String], paths: &mut Vec<Vec<String>>) {
    for branch in tokens.split(|token| is_punct(token, ',')) {
        let mut path = prefix.to_vec();
        for token in branch {
            match token {
                TokenTree::Ident(word) if word == "as" => break,
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Group(group) => {
                    let tree: Vec<_> = group.stream().into_iter().collect();
                    use_tree(&tree, &path, paths);
                    path.clear();
                }
                _ => {}
            }
        }
        // `self` at the end of a tree names the module before it.
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if !branch.is_empty() && !path.is_empty() {
            paths.push(path);
        }
    }
}

/// The path at the beginning of these tokens.
fn path(tokens: &[TokenTree]) -> Vec<String> {
    let mut path = Vec::new();
    let mut rest = tokens;
    while let [TokenTree::Ident(word), after @ ..] = rest {
        path.push(word.to_string());
        match after {
            [first, second, further @ ..] if is_separator(first, second) => rest = further,
            _ => break,
        }
    }
    path
}

/// Whether an attribute is `cfg(test)`, perhaps with further conditions.
fn is_for_tests(attribute: &TokenStream) -> bool {
    let text = attribute.to_string().replace(' ', "");
    text.starts_with("cfg(test") || text.starts_with("cfg(all(test")
}

/// Whether these tokens end with `pub`, perhaps with a restriction.
fn is_public(before: &[TokenTree]) -> bool {
    match before {
        [.., TokenTree::Ident(word)] => word == "pub",
        [.., TokenTree::Ident(word), TokenTree::Group(_)] => word == "pub",
        _ => false,
    }
}

fn is_separator(first: &TokenTree, second: &TokenTree) -> bool {
    is_punct(first, ':') && is_punct(second, ':')
}

fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_outside_of_tests_is_named() {
        let text = r##"
            use a::{self, b::{C, D as E}, f::*};
            pub(crate) use super::x; use y;
            // use comment::X;
            fn f<'a>(x: &'a str) -> impl Fn() + use<'a> { let c = '"'; crate::a::b(c, "use s::X;", r#"use r::X"#) }
            mod inner { use super::deep::Z; }
            fn g() { <T as p::Q>::r::<u8>(); m!(q::R) }
            #[cfg(test)]
            use t::{U, V};
            #[cfg(test)]
            #[expect(dead_code)]
            mod tests { use w::X; }
            #[cfg(all(test, feature = "x"))]
            pub(crate) mod more;
            struct After { at: v::W }
        "##;
        let mut named = Named::default();
        named.read(text.parse().expect("Rust"), &[]);
        let paths = named.paths.iter();
        let paths: Vec<_> = paths
            .map(|(within, path)| [within.join("/"), path.join("::")].join("/"))
            .collect();
        let expected = [
            "/a",
            "/a::b::C",
            "/a::b::D",
            "/a::f",
            "/super::x",
            "/y",
            "/crate::a::b",
            "inner/super::deep::Z",
            "/p::Q",
            "/q::R",
            "/v::W",
        ];
        assert_eq!(paths, expected);
        assert_eq!(named.reexports, [["super", "x"]]);
        assert_eq!(named.test_modules, ["tests", "more"]);
    }
}
