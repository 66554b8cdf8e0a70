//! `JWT_ISSUERS_FILE`: a JSON array of issuers. Every problem of every entry is reported at once, in
//! our words.

use std::convert::Infallible;
use std::path::Path;
use std::str::FromStr;

use launch::settings::file;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use url::Url;

use super::{AudienceClaim, DISCORD, Issuer, SERVICE, WITHOUT_MARKS, claim_warning, has_marks};
use crate::auth::claims::ClaimPath;
use crate::auth::principal::Subject;
use crate::auth::reach::parse_key_set_url;

/// The most issuers of one hub: each has a key set that is kept fresh.
const ISSUERS_MAX: usize = 16;
/// The largest file of issuers, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The longest `subjectPrefix`, in characters. A subject has 255 with it.
const PREFIX_CHARS_MAX: usize = 64;
/// The fields of an entry.
const FIELDS: [&str; 9] = [
    "issuer",
    "audience",
    "jwksUrl",
    "audienceClaim",
    "guildsClaim",
    "scopeClaim",
    "discordIdClaim",
    "subjectPrefix",
    "discordSubjects",
];

/// The issuers of `JWT_ISSUERS_FILE`, and what is wrong with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IssuersFile {
    /// The issuers, which agree with each other if there is no problem; otherwise those whose
    /// required fields are right.
    pub issuers: Vec<Issuer>,
    /// Every address of a key set that could be read, also those of wrong entries.
    pub key_sets: Vec<Url>,
    /// A sentence or two for each problem; none: the file can be used.
    pub problems: Vec<String>,
    /// What is probably not meant, also of wrong entries: see [`claim_warning`].
    pub warnings: Vec<String>,
}

/// Reads the file of issuers at this path.
///
/// # Errors
/// None: the file's problems are in the result, because they can be many.
pub fn read_issuers(path: &str) -> Result<IssuersFile, Infallible> {
    let read = file::read(Path::new(path), FILE_BYTES_MAX, "the issuers");
    Ok(match read {
        Ok(json) => IssuersFile::parse(&json),
        Err(why) => IssuersFile::broken(why),
    })
}

impl IssuersFile {
    fn broken(problem: impl Into<String>) -> Self {
        Self {
            problems: vec![problem.into()],
            ..Self::default()
        }
    }

    /// Reads the content of the file.
    pub fn parse(json: &str) -> Self {
        if let Err(error) = serde_json::from_str::<Value>(json) {
            if error.is_eof() {
                return Self::broken(
                    "The file ends too early: a bracket, a brace or a quotation mark is not closed. Close it.",
                );
            }
            return Self::broken(format!(
                "The file is not JSON: the first mistake is in line {}, column {}. Correct it there.",
                error.line(),
                error.column()
            ));
        }
        let Ok(entries) = serde_json::from_str::<Vec<Entry>>(json) else {
            return Self::broken(
                "The file must be a list of issuers: [ {…}, {…} ]. Write brackets around it.",
            );
        };
        let mut found = Self::default();
        let count = entries.len();
        if count == 0 || count > ISSUERS_MAX {
            let text = format!("The file must list 1 to {ISSUERS_MAX} issuers.");
            found.problems.push(text);
        }
        let entries = entries.into_iter().take(ISSUERS_MAX);
        let drafts: Vec<_> = entries.map(Draft::read).collect();
        for (index, draft) in drafts.iter().enumerate() {
            let earlier = drafts.get(..index).unwrap_or_default();
            let problems = draft.problems.iter().cloned();
            let problems: Vec<_> = problems
                .chain(disagreements(draft, earlier, count))
                .map(|what| format!("Issuer {}: {what}", index + 1))
                .collect();
            found.problems.extend(problems);
            found.key_sets.extend(draft.jwks_url.clone());
            found.issuers.extend(draft.issuer());
            found.warnings.extend(draft.warnings());
        }
        found
    }
}

/// An entry as it stands in the file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Object(Fields),
    Other(IgnoredAny),
}

/// The fields of an entry. A map keeps the last of equal names, so the repeated ones stand beside it.
#[derive(Default)]
struct Fields {
    values: Map<String, Value>,
    repeated: Vec<String>,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if self.values.insert(name.clone(), value).is_some() {
                self.repeated.push(name);
            }
        }
        Ok(self)
    }
}

/// An entry as far as it could be read.
#[derive(Default)]
struct Draft {
    issuer: Option<String>,
    audiences: Option<Vec<String>>,
    jwks_url: Option<Url>,
    audience_claim: AudienceClaim,
    guilds_claim: Option<ClaimPath>,
    scope_claim: Option<ClaimPath>,
    discord_id_claim: Option<ClaimPath>,
    subject_prefix: Option<String>,
    discord_subjects: bool,
    problems: Vec<String>,
    /// A field that says whose subjects these are is wrong: nothing more is said of them.
    subjects_unknown: bool,
}

impl Draft {
    fn read(entry: Entry) -> Self {
        let mut draft = Self::default();
        let Entry::Object(Fields {
            values: mut fields,
            repeated,
        }) = entry
        else {
            draft.problems.push(
                "it must be an object with issuer, audience and jwksUrl, in braces.".to_owned(),
            );
            draft.subjects_unknown = true;
            return draft;
        };
        for name in repeated {
            let text = format!("it has \"{}\" twice. Keep one.", name.escape_debug());
            draft.problems.push(text);
        }
        // null is as good as nothing where a field may be left out.
        let mut take = |name: &str| fields.remove(name).filter(|value| !value.is_null());
        let [issuer, audience, jwks_url] = ["issuer", "audience", "jwksUrl"].map(&mut take);
        let claims = [
            "audienceClaim",
            "guildsClaim",
            "scopeClaim",
            "discordIdClaim",
        ];
        let [audience_claim, guilds_claim, scope_claim, discord_id_claim] = claims.map(&mut take);
        let [prefix, discord_subjects] = ["subjectPrefix", "discordSubjects"].map(&mut take);
        for name in fields.keys() {
            if !FIELDS.contains(&name.as_str()) {
                draft.problems.push(format!(
                    "\"{}\" is not a field. Allowed are {}.",
                    name.escape_debug(),
                    FIELDS.join(", ")
                ));
            }
        }
        draft.issuer = draft.required(
            issuer,
            "issuer is missing. Set it to the \"iss\" of its tokens.",
            issuer_text,
        );
        draft.audiences = draft.required(
            audience,
            "audience is missing. Set it to a list of the \"aud\" of its tokens.",
            audiences,
        );
        draft.jwks_url = draft.required(
            jwks_url,
            "jwksUrl is missing. Set it to the \"jwks_uri\" of the issuer.",
            key_set,
        );
        draft.audience_claim = draft
            .optional(audience_claim, |value| parsed(value, "audienceClaim"))
            .unwrap_or_default();
        draft.guilds_claim = draft.optional(guilds_claim, |value| parsed(value, "guildsClaim"));
        draft.scope_claim = draft.optional(scope_claim, |value| parsed(value, "scopeClaim"));
        let before = draft.problems.len();
        draft.discord_id_claim =
            draft.optional(discord_id_claim, |value| parsed(value, "discordIdClaim"));
        draft.subject_prefix = draft.optional(prefix, subject_prefix);
        draft.discord_subjects = draft
            .optional(discord_subjects, |value| {
                value.as_bool().ok_or_else(|| {
                    "discordSubjects must be true or false, without quotation marks.".to_owned()
                })
            })
            .unwrap_or_default();
        draft.subjects_unknown = draft.problems.len() > before;
        draft
    }

    fn required<T>(
        &mut self,
        value: Option<Value>,
        missing: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        if value.is_none() {
            self.problems.push(missing.to_owned());
        }
        self.optional(value, read)
    }

    fn optional<T>(
        &mut self,
        value: Option<Value>,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        match read(&value?) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn warnings(&self) -> Vec<String> {
        let of = self.issuer.as_deref().unwrap_or("an issuer");
        let paths = [
            ("guilds", &self.guilds_claim),
            ("rights", &self.scope_claim),
            ("Discord id", &self.discord_id_claim),
        ];
        let warnings = paths
            .into_iter()
            .filter_map(|(what, path)| claim_warning(what, of, path.as_ref()?));
        warnings.collect()
    }

    /// The issuer, if its required fields are right.
    fn issuer(&self) -> Option<Issuer> {
        Some(Issuer {
            issuer: self.issuer.clone()?,
            audiences: self.audiences.clone()?,
            jwks_url: self.jwks_url.clone()?,
            audience_claim: self.audience_claim,
            guilds_claim: self.guilds_claim.clone().unwrap_or_else(ClaimPath::guilds),
            scope_claim: self.scope_claim.clone().unwrap_or_else(ClaimPath::scope),
            discord_id_claim: self.discord_id_claim.clone(),
            subject_prefix: self.subject_prefix.clone(),
            discord_subjects: self.discord_subjects,
        })
    }
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str, String> {
    let not_a_text = || format!("{field} must be a text in quotation marks.");
    value.as_str().ok_or_else(not_a_text)
}

fn issuer_text(value: &Value) -> Result<String, String> {
    let issuer = text(value, "issuer")?;
    if issuer.trim().is_empty() {
        return Err("issuer is empty. Set it to the \"iss\" of its tokens.".to_owned());
    }
    if has_marks(issuer) {
        return Err(format!("issuer is wrong. {WITHOUT_MARKS}"));
    }
    Ok(issuer.to_owned())
}

fn audiences(value: &Value) -> Result<Vec<String>, String> {
    let entries = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = entries
        .iter()
        .map(|entry| entry.as_str().map(str::to_owned));
    let audiences: Option<Vec<String>> = texts.collect();
    match audiences {
        Some(audiences) if audiences.iter().any(|audience| has_marks(audience)) => {
            Err(format!("audience is wrong. {WITHOUT_MARKS}"))
        }
        Some(audiences)
            if !audiences.is_empty()
                && !audiences.iter().any(|audience| audience.trim().is_empty()) =>
        {
            Ok(audiences)
        }
        _ => Err("audience must be a list of at least one audience, none of them empty, as in [\"rooms\"].".to_owned()),
    }
}

fn key_set(value: &Value) -> Result<Url, String> {
    let url = text(value, "jwksUrl")?;
    parse_key_set_url(url).map_err(|why| format!("jwksUrl is wrong. {why}"))
}

fn parsed<T: FromStr<Err: ToString>>(value: &Value, field: &str) -> Result<T, String> {
    let text = text(value, field)?;
    let parsed = text.parse::<T>();
    parsed.map_err(|why| {
        format!(
            "{field} is \"{}\". {}",
            text.escape_debug(),
            why.to_string()
        )
    })
}

fn subject_prefix(value: &Value) -> Result<String, String> {
    let prefix = text(value, "subjectPrefix")?;
    if prefix.chars().count() > PREFIX_CHARS_MAX || Subject::new(prefix).is_none() {
        return Err("subjectPrefix must be 1 to 64 characters, all of them printable.".to_owned());
    }
    if [SERVICE, DISCORD]
        .iter()
        .any(|kept| prefix.starts_with(kept))
    {
        return Err("subjectPrefix must not begin with service: or discord:.".to_owned());
    }
    Ok(prefix.to_owned())
}

/// Which rules an entry breaks together with those before it.
fn disagreements(entry: &Draft, earlier: &[Draft], count: usize) -> Vec<String> {
    let mut problems = Vec::new();
    let mut wrong = |what: &str| problems.push(what.to_owned());
    if entry.issuer.is_some() && earlier.iter().any(|other| other.issuer == entry.issuer) {
        wrong("its \"issuer\" is listed twice. Keep one.");
    }
    if entry.subjects_unknown {
        return problems;
    }
    match &entry.subject_prefix {
        Some(_) if entry.discord_subjects => {
            wrong("it has both subjectPrefix and discordSubjects. Keep one.");
        }
        Some(_) if entry.discord_id_claim.is_some() => {
            wrong("it has both subjectPrefix and discordIdClaim. Keep one.");
        }
        Some(prefix) => {
            let mut others = earlier
                .iter()
                .filter_map(|other| other.subject_prefix.as_ref());
            if others.any(|other| other.starts_with(prefix) || prefix.starts_with(other)) {
                wrong(
                    "its subjectPrefix and that of an earlier issuer begin alike. Choose prefixes of which none is the beginning of another.",
                );
            }
        }
        None if !earlier.is_empty() && !entry.discord_subjects => {
            wrong("each issuer but the first needs a subjectPrefix, or \"discordSubjects\": true.");
        }
        None => {}
    }
    if entry.discord_subjects && earlier.iter().any(|other| other.discord_subjects) {
        wrong("an earlier issuer has discordSubjects too. One issuer may name Discord users.");
    }
    if count > 1 && entry.discord_id_claim.is_some() && !entry.discord_subjects {
        wrong("discordIdClaim needs \"discordSubjects\": true where several issuers are listed.");
    }
    problems
}
