//! The paths that a source file names, in `use` declarations and elsewhere, without its tests.

/// What a file names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Each path with the modules inside the file that contain it.
    pub(crate) paths: Vec<(Vec<String>, Vec<String>)>,
    /// The paths that the file's own module re-exports.
    pub(crate) reexports: Vec<Vec<String>>,
    /// The modules that are compiled for tests only.
    pub(crate) test_modules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    PathSeparator,
    Mark(char),
}

/// The paths that this text names.
pub(crate) fn named(text: &str) -> Named {
    let mut reader = Reader {
        tokens: tokens(text),
        at: 0,
        named: Named::default(),
    };
    reader.read();
    reader.named
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    named: Named,
}

impl Reader {
    fn read(&mut self) {
        // The modules inside the file around this place, each with its depth in braces.
        let (mut depth, mut within) = (0_usize, Vec::<(usize, String)>::new());
        let mut is_public = false;
        while let Some(token) = self.tokens.get(self.at).cloned() {
            if self.is_test_attribute() {
                self.skip_test_item();
                continue;
            }
            match token {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => {
                    depth = depth.saturating_sub(1);
                    within.retain(|(at, _)| *at < depth);
                }
                Token::Word(word) if word == "pub" => is_public = true,
                Token::Word(word) if word == "mod" && self.mark(2) == Some('{') => {
                    within.extend(self.word(1).map(|name| (depth, name.to_owned())));
                }
                Token::Word(word) if word == "use" && self.mark(1) != Some('<') => {
                    self.at += 1;
                    let modules: Vec<_> = within.iter().map(|(_, name)| name.clone()).collect();
                    let mut paths = Vec::new();
                    self.use_tree(&mut Vec::new(), &mut paths);
                    if is_public && modules.is_empty() {
                        self.named.reexports.extend(paths.iter().cloned());
                    }
                    let paths = paths.into_iter().map(|path| (modules.clone(), path));
                    self.named.paths.extend(paths);
                    is_public = false;
                    continue;
                }
                Token::Word(word) => {
                    is_public &= matches!(word.as_str(), "crate" | "super" | "in");
                    let path = self.path(word);
                    if path.len() > 1 {
                        let modules = within.iter().map(|(_, name)| name.clone()).collect();
                        self.named.paths.push((modules, path));
                    }
                    continue;
                }
                Token::PathSeparator => {
                    // The rest of a path that begins with a type, or with the name of a crate.
                    self.at += 1;
                    while self.word(0).is_some()
                        && self.tokens.get(self.at + 1) == Some(&Token::PathSeparator)
                    {
                        self.at += 2;
                    }
                }
                Token::Mark('(' | ')') => {}
                Token::Mark(_) => is_public = false,
            }
            self.at += 1;
        }
    }

    /// A path that begins with this word at this place.
    fn path(&mut self, first: String) -> Vec<String> {
        let mut path = vec![first];
        self.at += 1;
        while self.tokens.get(self.at) == Some(&Token::PathSeparator)
            && let Some(word) = self.word(1)
        {
            path.push(word.to_owned());
            self.at += 2;
        }
        path
    }

    /// A tree of `use` at this place: all of its paths.
    fn use_tree(&mut self, prefix: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
        let length = prefix.len();
        while let Some(token) = self.tokens.get(self.at).cloned() {
            self.at += 1;
            match token {
                Token::Word(word) if word == "as" => self.at += 1,
                Token::Word(word) => prefix.push(word),
                Token::PathSeparator => {}
                Token::Mark('{') => {
                    while self.mark(0) != Some('}') && self.at < self.tokens.len() {
                        self.use_tree(prefix, paths);
                    }
                    self.at += 1;
                    prefix.truncate(length);
                    return;
                }
                Token::Mark(',') => break,
                Token::Mark('}') => {
                    self.at -= 1;
                    break;
                }
                Token::Mark(';') => break,
                Token::Mark(_) => {}
            }
        }
        if prefix.len() > length {
            // `self` at the end of a tree names the module before it.
            if prefix.len() > 1 && prefix.last().is_some_and(|last| last == "self") {
                prefix.pop();
            }
            paths.push(prefix.clone());
        }
        prefix.truncate(length);
    }

    /// Whether `#[cfg(test)]`, perhaps with further conditions, stands here.
    fn is_test_attribute(&self) -> bool {
        let begins = self.mark(0) == Some('#')
            && self.mark(1) == Some('[')
            && self.word(2) == Some("cfg")
            && self.mark(3) == Some('(');
        begins
            && match self.word(4) {
                Some("test") => true,
                Some("all") => self.word(6) == Some("test"),
                _ => false,
            }
    }

    /// Skips attributes and the item behind them.
    fn skip_test_item(&mut self) {
        while self.mark(0) == Some('#') {
            self.at += 1;
            self.skip_group();
        }
        while self.word(0) == Some("pub") || self.mark(0) == Some('(') {
            if self.mark(0) == Some('(') {
                self.skip_group();
            } else {
                self.at += 1;
            }
        }
        if self.word(0) == Some("mod")
            && self.mark(2) == Some(';')
            && let Some(name) = self.word(1)
        {
            self.named.test_modules.push(name.to_owned());
        }
        let ends_at_semicolon = self.word(0) == Some("use");
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Mark(';') => {
                    self.at += 1;
                    return;
                }
                Token::Mark('{') => {
                    self.skip_group();
                    if !ends_at_semicolon {
                        return;
                    }
                }
                Token::Mark('(' | '[') => self.skip_group(),
                _ => self.at += 1,
            }
        }
    }

    /// Skips a group in brackets.
    fn skip_group(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            match token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    fn word(&self, ahead: usize) -> Option<&str> {
        match self.tokens.get(self.at + ahead)? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn mark(&self, ahead: usize) -> Option<char> {
        match self.tokens.get(self.at + ahead)? {
            Token::Mark(mark) => Some(*mark),
            _ => None,
        }
    }
}

/// The words and marks of a text, without comments, literals and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&char) = chars.get(at) {
        let next = chars.get(at + 1).copied().unwrap_or_default();
        match char {
            '/' if next == '/' => at = find(&chars, at, |rest| rest[0] == '\n'),
            '/' if next == '*' => {
                let end = find(&chars, at + 2, |rest| rest.starts_with(&['*', '/']));
                at = end + 2;
            }
            '"' => at = end_of_string(&chars, at),
            'r' if is_raw_string(&chars, at) => at = end_of_raw_string(&chars, at + 1),
            '\'' => at = end_of_char(&chars, at),
            ':' if next == ':' => {
                tokens.push(Token::PathSeparator);
                at += 2;
            }
            char if char.is_alphanumeric() || char == '_' => {
                let end = find(&chars, at, |rest| {
                    !(rest[0].is_alphanumeric() || rest[0] == '_')
                });
                tokens.push(Token::Word(chars[at..end].iter().collect()));
                at = end;
            }
            char if char.is_whitespace() => at += 1,
            char => {
                tokens.push(Token::Mark(char));
                at += 1;
            }
        }
    }
    tokens
}

/// The first place from here on at which this holds, or the end.
fn find(chars: &[char], from: usize, holds: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len())
        .find(|&at| holds(&chars[at..]))
        .unwrap_or(chars.len())
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(char) = chars.get(at) {
        match char {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

fn is_raw_string(chars: &[char], at: usize) -> bool {
    let quote = find(chars, at + 1, |rest| rest[0] != '#');
    chars.get(quote) == Some(&'"')
}

/// The end of a raw string whose `#` or quotation mark is at `start`.
fn end_of_raw_string(chars: &[char], start: usize) -> usize {
    let quote = find(chars, start, |rest| rest[0] != '#');
    let mut end = vec!['"'];
    end.extend(vec!['#'; quote - start]);
    find(chars, quote + 1, |rest| rest.starts_with(&end)) + end.len()
}

/// The end of a character's literal, or of a lifetime's mark.
fn end_of_char(chars: &[char], start: usize) -> usize {
    match (chars.get(start + 1), chars.get(start + 2)) {
        (Some('\\'), _) => find(chars, start + 3, |rest| rest[0] == '\'') + 1,
        (_, Some('\'')) => start + 3,
        _ => start + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        named(text)
            .paths
            .iter()
            .map(|(within, path)| {
                let mut all = within.clone();
                all.push(path.join("::"));
                all.join("/")
            })
            .collect()
    }

    #[test]
    fn every_leaf_of_a_use_tree_is_a_path() {
        let text = "use a::{self, b::{C, D as E}, f::*};\npub(crate) use super::x; use y;";
        assert_eq!(
            paths(text),
            ["a", "a::b::C", "a::b::D", "a::f", "super::x", "y"]
        );
        assert_eq!(named(text).reexports, [["super", "x"]]);
    }

    #[test]
    fn paths_in_code_count_and_literals_comments_and_tests_do_not() {
        let text = r##"
            // use comment::X;
            /* use comment::Y; */
            fn f<'a>(x: &'a str) -> impl Fn() + use<'a> { let c = '"'; crate::a::b(c, "use s::X;", r#"use r::X"#) }
            mod inner { use super::deep::Z; }
            fn g() { <T as p::Q>::r::<u8>(); }
            #[cfg(test)]
            use t::{U, V};
            #[cfg(test)]
            #[expect(dead_code)]
            mod tests { use w::X; }
            #[cfg(all(test, feature = "x"))]
            mod more;
            struct After { at: v::W }
        "##;
        assert_eq!(
            paths(text),
            ["crate::a::b", "inner/super::deep::Z", "p::Q", "v::W"]
        );
        assert_eq!(named(text).test_modules, ["more"]);
    }
}
