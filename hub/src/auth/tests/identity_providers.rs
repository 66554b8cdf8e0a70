//! The recipes of docs/identity-providers.md, as they stand there: each token is signed by a test
//! key and verified by the real verifier with the settings beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use launch::settings::{Program as _, parse_from};
use serde_json::Map;

use super::over_http::{Answer, KeyServer, is_unauthorized, key_server};
use super::*;
use crate::auth::{IssuersFile, Verifier};
use crate::config::Settings;

const PAGE: &str = include_str!("../../../../docs/identity-providers.md");
/// What the hub needs beside the settings of a recipe.
const BESIDE: &[(&str, &str)] = &[
    (
        "HUB_SECRET",
        "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    ),
    ("WEB_ORIGIN", "https://example.org"),
    ("PRIMARY_GUILD_ID", "100000000000000001"),
    ("DISCORD_BOT_TOKEN", "sim-token"),
];

/// One section of the page: its fenced blocks, by the words behind the fence.
struct Recipe {
    title: &'static str,
    blocks: BTreeMap<&'static str, String>,
}

fn recipes() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    let mut block: Option<(&str, String)> = None;
    for line in PAGE.lines() {
        let fence = line.strip_prefix("```");
        match (block.take(), fence) {
            (None, Some(words)) => block = Some((words, String::new())),
            (Some((words, text)), Some(_)) => {
                let recipe: &mut Recipe = recipes.last_mut().expect("a section");
                assert!(recipe.blocks.insert(words, text).is_none(), "{words} twice");
            }
            (Some((words, text)), None) => block = Some((words, text + line + "\n")),
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    let blocks = BTreeMap::new();
                    recipes.push(Recipe { title, blocks });
                }
            }
        }
    }
    recipes
}

impl Recipe {
    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.blocks[words]).unwrap()
    }

    fn object(&self, words: &str) -> Map<String, Value> {
        self.json(words).as_object().unwrap().clone()
    }

    /// The settings as the hub reads them, with the key set at the test's own address.
    fn verifier(&self, server: &KeyServer) -> Verifier {
        let lines = self.blocks["env"].lines();
        let mut variables: BTreeMap<_, _> = lines
            .map(|line| line.split_once('=').expect("NAME=value"))
            .map(|(name, value)| (name, value.trim_matches('"')))
            .collect();
        variables.extend(BESIDE.iter().copied());
        let settings: Settings = parse_from(["hub".into()], |name| {
            variables.get(name).map(OsString::from)
        })
        .unwrap();
        assert_eq!(settings.warnings(), []);
        let mut auth = settings.auth();
        auth.issuers[0].jwks_url = server.url.clone();
        Verifier::new(auth)
    }

    /// The change that gives the token these guilds, or none of them; `None` if it has no guilds
    /// claim.
    fn with_guilds(&self, guilds: &Value) -> Option<Value> {
        let mut env = self.blocks["env"].lines();
        let setting = env.find_map(|line| line.strip_prefix("JWT_GUILDS_CLAIM="));
        let name = setting.unwrap_or("guilds");
        let claims = self.object("json token");
        if claims.contains_key(name) {
            return Some(json!({ name: guilds }));
        }
        let (outer, inner) = name.split_once('.')?;
        let mut object = claims[outer].as_object()?.clone();
        object.remove(inner);
        if !guilds.is_null() {
            object.insert(inner.into(), guilds.clone());
        }
        Some(json!({ outer: object }))
    }

    /// The token with some claims changed; one that is null is left out. Its times are moved to
    /// now.
    fn token(&self, changes: &Value) -> String {
        let mut claims = self.object("json token");
        let moved_s = launch::clock::now_ms() / 1000 - claims["iat"].as_u64().unwrap();
        for name in ["iat", "exp", "nbf", "auth_time"] {
            if let Some(time) = claims.get_mut(name) {
                *time = json!(time.as_u64().unwrap() + moved_s);
            }
        }
        claims.extend(changes.as_object().unwrap().clone());
        // The issuer of the tests adds these where nothing is said of them.
        for name in ["aud", "sub", "iss", "exp", "iat"] {
            claims.entry(name).or_insert(json!(null));
        }
        let header = self.object("json header");
        token(&json!({ "alg": header["alg"], "header": header, "claims": claims }))
    }
}

/// As the page writes them: null is the primary guild.
fn guild_ids(principal: &Principal) -> Value {
    let guilds = principal.guilds.as_ref();
    let ids = guilds.map(|guilds| guilds.iter().map(ToString::to_string).collect::<Vec<_>>());
    json!(ids)
}

fn names(rights: crate::auth::Rights) -> String {
    let words = [
        (rights.read, "read"),
        (rights.create, "create"),
        (rights.end, "end"),
        (rights.manage, "manage"),
    ];
    let held = words.iter().filter(|(holds, _)| *holds);
    held.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn every_recipe_of_the_page_accepts_its_token_and_refuses_its_variations() {
    let server = key_server(Answer::Set(OURS.key_set())).await;
    let mut seen = BTreeSet::new();
    for recipe in recipes() {
        let title = recipe.title;
        if !recipe.blocks.contains_key("env") {
            continue;
        }
        seen.insert(title);
        let verifier = recipe.verifier(&server);
        let principal = verifier.verify(&recipe.token(&json!({}))).await;
        let principal = principal.unwrap_or_else(|error| panic!("{title}: {error:?}"));
        let accepted = json!({
            "sub": principal.subject.to_string(),
            "guilds": guild_ids(&principal),
            "rights": names(principal.rights),
        });
        assert_eq!(accepted, recipe.json("json accepted"), "{title}");
        for guilds in [json!(null), json!([])] {
            if let Some(change) = recipe.with_guilds(&guilds) {
                let principal = verifier.verify(&recipe.token(&change)).await.unwrap();
                assert_eq!(guild_ids(&principal), guilds, "{title}");
            }
        }
        let variations = recipe.json("json refused");
        let variations = variations.as_array().unwrap();
        assert!(!variations.is_empty(), "{title}");
        for variation in variations {
            let outcome = verifier.verify(&recipe.token(variation)).await;
            assert!(
                is_unauthorized(&outcome),
                "{title} {variation}: {outcome:?}"
            );
        }
        let foreign = {
            let mut claims = recipe.object("json token");
            claims["exp"] = json!(launch::clock::now_ms() / 1000 + 60);
            token_of(&FOREIGN, &json!({ "alg": "ES256", "claims": claims }))
        };
        assert!(is_unauthorized(&verifier.verify(&foreign).await), "{title}");
    }
    let wanted = [
        "Auth0",
        "Clerk",
        "Supabase",
        "Firebase",
        "Keycloak",
        "Amazon Cognito",
        "Microsoft Entra ID",
        "next-auth (Auth.js)",
        "Your own key",
    ];
    assert_eq!(seen, wanted.into_iter().collect());
}

#[test]
fn the_file_of_issuers_of_the_page_is_one_that_the_hub_reads() {
    let recipes = recipes();
    let several = recipes
        .iter()
        .find_map(|recipe| recipe.blocks.get("json issuers"));
    assert_eq!(IssuersFile::parse(several.unwrap()).issuers.len(), 3);
}
