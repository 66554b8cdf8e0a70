//! The REST endpoints of rooms.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use proto::problem::{Code, FieldProblem};
use proto::rest::{CreateInvite, CreateRoom, EndedRoom, RoomList};
use proto::{ChannelId, GuildId};
use roomlog::ledger::{BodyDigest, KeyedRequest, Owner, RequestKey};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::invite;
use super::request::wrong_fields;
use super::{Listed, Rooms};
use crate::access::Access;
use crate::auth::{AuthError, Principal, Subject, Verifier};
use crate::error::ApiError;
use crate::freshness::Freshness;
use crate::http::only;
use crate::positions::Positions;

/// How much of an unknown field's name is repeated to the sender, in characters.
const FIELD_CHARS_MAX: usize = 64;
/// How many wrong fields are named.
const FIELDS_MAX: usize = 16;
/// When to retry while tokens cannot be verified, in ms.
const KEYS_RETRY_MS: u64 = 5_000;

/// The endpoints. A clone is a reference.
#[derive(Clone)]
pub struct RoomsApi {
    /// Verifies the bearer token.
    pub verifier: Verifier,
    /// Names the guild of a request that names none.
    pub access: Access,
    /// Creates, ends and lists.
    pub rooms: Rooms,
    /// Seals the position of an answer.
    pub positions: Positions,
    /// How fresh a guild is.
    pub freshness: Freshness,
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
}

impl RoomsApi {
    /// [`RoomsApi::body_bytes_max`]: many times a room's fields.
    pub const BODY_BYTES_MAX: usize = 16 * 1024;

    /// `POST /api/create-room`, `DELETE /api/end-room/{channelId}`, `GET /api/rooms`,
    /// `GET /api/rooms/{channelId}`, `POST /api/rooms/{channelId}/invites`.
    pub fn router(self) -> Router {
        Router::new()
            .route("/api/create-room", post(create))
            .route("/api/end-room/{channel}", delete(end))
            .route("/api/rooms", get(list))
            .route("/api/rooms/{channel}", get(one))
            .route("/api/rooms/{channel}/invites", post(make_invite))
            .with_state(self)
    }

    async fn principal(&self, uri: &Uri, headers: &HeaderMap) -> Result<Principal, ApiError> {
        let query = uri.query().unwrap_or_default();
        let mut keys = form_urlencoded::parse(query.as_bytes()).map(|(key, _)| key);
        if let Some(key) = keys.find(|key| is_token_key(key)) {
            let why = "a token never goes into the address";
            return Err(ApiError::new(Code::BadRequest, why).field(key, why));
        }
        let token = bearer(headers)
            .ok_or_else(|| ApiError::new(Code::Unauthorized, "a bearer token is needed"))?;
        self.verifier
            .verify(token)
            .await
            .map_err(|error| match error {
                AuthError::Unauthorized(reason) => {
                    ApiError::new(Code::Unauthorized, "the bearer token is invalid").reason(reason)
                }
                AuthError::Unavailable => {
                    ApiError::new(Code::Unavailable, "tokens cannot be verified now")
                        .retry_after_ms(KEYS_RETRY_MS)
                }
            })
    }

    /// The body of a request, which must say that it is JSON.
    async fn json_body(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
        if !is_json(headers) {
            let why = "the content type must be application/json";
            return Err(ApiError::new(Code::BadRequest, why).field("content-type", why));
        }
        // A body that breaks off ends here too. Then the client has gone.
        let too_large = |_| {
            ApiError::new(
                Code::TooLarge,
                format!("at most {} bytes", self.body_bytes_max),
            )
        };
        to_bytes(body, self.body_bytes_max).await.map_err(too_large)
    }

    fn answer(&self, listed: Listed) -> Response {
        let guild_id = listed.view.guild();
        let list = RoomList {
            guild_id,
            rooms: listed.rooms,
            pos: self
                .positions
                .seal(listed.position, 0, listed.view.fingerprint()),
            gateway: self.freshness.of(guild_id),
        };
        ([(header::CACHE_CONTROL, "no-store")], Json(list)).into_response()
    }
}

async fn create(State(api): State<RoomsApi>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    // Authenticated before the body is read.
    let principal = api.principal(&parts.uri, &parts.headers).await?;
    let key = request_key(&principal.subject, &parts.headers)?;
    let body = api.json_body(&parts.headers, body).await?;
    let room = read_room(&body)?;
    let keyed = key.map(|key| KeyedRequest {
        key,
        body: digest(&body),
    });
    let created = api.rooms.create(&principal, &room, keyed).await?;
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

async fn make_invite(
    State(api): State<RoomsApi>,
    channel: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let principal = api.principal(&parts.uri, &parts.headers).await?;
    let channel = channel_of(channel)?;
    let body = api.json_body(&parts.headers, body).await?;
    let invite = read_invite(&body)?;
    let made = api.rooms.invite(&principal, channel, &invite).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

async fn end(
    State(api): State<RoomsApi>,
    channel: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<EndedRoom>, ApiError> {
    let principal = api.principal(&uri, &headers).await?;
    api.rooms.end(&principal, channel_of(channel)?).await?;
    Ok(Json(EndedRoom { ok: true }))
}

async fn list(
    State(api): State<RoomsApi>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let principal = api.principal(&uri, &headers).await?;
    let guild = guild_of(uri.query().unwrap_or_default())?
        .or_else(|| api.access.primary())
        .ok_or_else(|| ApiError::new(Code::Forbidden, "not a guild of this token"))?;
    Ok(api.answer(api.rooms.list(&principal, guild, None)?))
}

async fn one(
    State(api): State<RoomsApi>,
    channel: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let principal = api.principal(&uri, &headers).await?;
    Ok(api.answer(api.rooms.get(&principal, channel_of(channel)?)?))
}

fn is_token_key(key: &str) -> bool {
    ["token", "access_token"]
        .iter()
        .any(|name| key.eq_ignore_ascii_case(name))
}

/// The token of the one `Authorization` header (RFC 6750, section 2.1; the scheme's name in any
/// case, RFC 9110, section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, rest) = only(headers, header::AUTHORIZATION)?.split_once(' ')?;
    let token = rest.trim_start_matches(' ');
    let well_formed = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && well_formed).then_some(token)
}

/// The key that a client gave its request (draft-ietf-httpapi-idempotency-key-header), if any.
fn request_key(subject: &Subject, headers: &HeaderMap) -> Result<Option<RequestKey>, ApiError> {
    let mut values = KEY_HEADERS.iter().flat_map(|name| headers.get_all(*name));
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let wrong = |why: &'static str| {
        Err(
            ApiError::new(Code::BadRequest, "the Idempotency-Key is wrong")
                .field("Idempotency-Key", why),
        )
    };
    if values.next().is_some() {
        return wrong("appears twice");
    }
    let owner = Owner::new(subject.as_str());
    let key = value.to_str().ok();
    match key.and_then(|key| RequestKey::new(owner, key)) {
        Some(key) => Ok(Some(key)),
        None => wrong("1 to 255 visible ASCII characters"),
    }
}

/// The digest of a body, which is JSON: the order of its fields and its blanks make no difference.
fn digest(body: &[u8]) -> BodyDigest {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut digest = Sha256::new();
    put_sorted(&value, &mut digest);
    digest.finalize().into()
}

/// Puts a value into a digest, the fields of each object by their names.
fn put_sorted(value: &Value, digest: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            digest.update(b"{");
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            for (name, value) in sorted {
                digest.update(Value::from(name.as_str()).to_string());
                put_sorted(value, digest);
            }
            digest.update(b"}");
        }
        Value::Array(values) => {
            digest.update(b"[");
            for value in values {
                put_sorted(value, digest);
                digest.update(b",");
            }
            digest.update(b"]");
        }
        plain => digest.update(plain.to_string()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = only(headers, header::CONTENT_TYPE);
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn channel_of(path: Result<Path<String>, PathRejection>) -> Result<ChannelId, ApiError> {
    path.ok()
        .and_then(|Path(text)| text.parse().ok())
        .ok_or_else(|| {
            ApiError::new(Code::BadRequest, "not a channel's id").field("channelId", NOT_AN_ID)
        })
}

/// The header of a request's key, and its older name.
const KEY_HEADERS: [&str; 2] = ["idempotency-key", "x-idempotency-key"];

const NOT_AN_ID: &str = "a decimal string from 1 to 9223372036854775807";

/// The guild that a query names. What is not known in a query is passed over, but nothing may
/// stand there twice: two readers would read two things.
fn guild_of(query: &str) -> Result<Option<GuildId>, ApiError> {
    let mut seen = Vec::new();
    let mut guild = None;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if seen.contains(&key) {
            let twice = ApiError::new(Code::BadRequest, "something stands in the query twice");
            return Err(twice.field(key.chars().take(64).collect::<String>(), "appears twice"));
        }
        if key == "guildId" {
            let id = value.parse().map_err(|_| {
                ApiError::new(Code::BadRequest, "not a guild's id").field("guildId", NOT_AN_ID)
            })?;
            guild = Some(id);
        }
        seen.push(key);
        if seen.len() > FIELDS_MAX {
            return Err(ApiError::new(Code::BadRequest, "too much in the query"));
        }
    }
    Ok(guild)
}

fn read_room(body: &Bytes) -> Result<CreateRoom, ApiError> {
    read_object(body, |fields, wrong| {
        let partial = CreateRoom {
            name: take(fields, "name", "a string", wrong),
            parent_id: take(fields, "parentId", NOT_AN_ID, wrong),
            user_limit: take(
                fields,
                "userLimit",
                "a whole number from 0 (no limit) to 99",
                wrong,
            ),
            guild_id: take(fields, "guildId", NOT_AN_ID, wrong),
        };
        wrong.extend(wrong_fields(&partial));
    })
}

fn read_invite(body: &Bytes) -> Result<CreateInvite, ApiError> {
    read_object(body, |fields, wrong| {
        let partial = CreateInvite {
            max_age_seconds: take(fields, "maxAgeSeconds", invite::AGE_FORM, wrong),
            max_uses: take(fields, "maxUses", invite::USES_FORM, wrong),
        };
        wrong.extend(invite::wrong_fields(&partial));
    })
}

/// Reads a JSON object. `explain` takes every field that there is, and says which are wrong.
fn read_object<T: DeserializeOwned>(
    body: &Bytes,
    explain: impl FnOnce(&mut Map<String, Value>, &mut Vec<FieldProblem>),
) -> Result<T, ApiError> {
    // serde reads a list of values in the struct's order as the struct.
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return Err(not_an_object());
    }
    serde_json::from_slice(body).map_err(|_| wrong_object(body, explain))
}

fn not_an_object() -> ApiError {
    ApiError::new(Code::BadRequest, "the body must be a JSON object")
}

/// Every wrong field of a body, not only the first.
fn wrong_object(
    body: &[u8],
    explain: impl FnOnce(&mut Map<String, Value>, &mut Vec<FieldProblem>),
) -> ApiError {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
        return not_an_object();
    };
    let mut wrong = Vec::new();
    explain(&mut fields, &mut wrong);
    wrong.extend(fields.keys().take(FIELDS_MAX).map(|name| FieldProblem {
        field: name.chars().take(FIELD_CHARS_MAX).collect(),
        detail: "no such field".to_owned(),
    }));
    if wrong.is_empty() {
        return ApiError::new(Code::BadRequest, "a field appears twice");
    }
    let mut error = ApiError::new(Code::BadRequest, "some fields are wrong");
    error.errors = wrong;
    error
}

fn take<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
    form: &str,
    wrong: &mut Vec<FieldProblem>,
) -> Option<T> {
    let value = fields.remove(name)?;
    serde_json::from_value::<Option<T>>(value).unwrap_or_else(|_| {
        wrong.push(FieldProblem {
            field: name.to_owned(),
            detail: form.to_owned(),
        });
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &header::HeaderName, values: &[&'static str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_bearer_token_stands_in_one_header_of_one_form() {
        for (values, token) in [
            (&["Bearer a.b.c"][..], Some("a.b.c")),
            (&["bearer a.b.c"], Some("a.b.c")),
            (&["BEARER  a.b.c"], Some("a.b.c")),
            (&[], None),
            (&["Bearer a", "Bearer a"], None),
            (&["Bearer"], None),
            (&["Bearer "], None),
            (&["Bearer a b"], None),
            (&["Basic a"], None),
            (&["a.b.c"], None),
            (&["Bearera.b.c"], None),
        ] {
            assert_eq!(
                bearer(&headers(&header::AUTHORIZATION, values)),
                token,
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_request_has_one_key_under_either_name() {
        let ada = Subject::new("ada").unwrap();
        let read = |given: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(
                    name,
                    header::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                );
            }
            request_key(&ada, &headers)
        };
        let key = RequestKey::new(Owner::new("ada"), "k1");
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("Idempotency-Key", "k1")]), Ok(key.clone()));
        assert_eq!(read(&[("X-Idempotency-Key", "k1")]), Ok(key));
        for wrong in [
            &[("idempotency-key", "")][..],
            &[("idempotency-key", "a b")],
            &[("idempotency-key", "\u{e9}")],
            &[("idempotency-key", &"k".repeat(256))],
            &[("idempotency-key", "k1"), ("idempotency-key", "k1")],
            &[("idempotency-key", "k1"), ("x-idempotency-key", "k1")],
        ] {
            let error = read(wrong).unwrap_err();
            assert_eq!(error.code, Code::BadRequest, "{wrong:?}");
            assert_eq!(error.errors[0].field, "Idempotency-Key");
        }
    }

    #[test]
    fn bodies_are_compared_as_json() {
        let same = [
            r#"{"name":"a","userLimit":4,"x":{"b":[1,"2"],"a":null}}"#,
            " { \"x\" : {\"a\":null, \"b\":[1, \"2\"]}, \"userLimit\":4,\n\"name\":\"\\u0061\"}",
        ];
        assert_eq!(digest(same[0].as_bytes()), digest(same[1].as_bytes()));
        let others = [
            r#"{"name":"a","userLimit":4,"x":{"b":["2",1],"a":null}}"#,
            r#"{"name":"a","userLimit":"4","x":{"b":[1,"2"],"a":null}}"#,
            r#"{"name":"a","x":{"b":[1,"2"],"a":null}}"#,
            "{}",
            r#"{"name":null}"#,
        ];
        let digests = others.map(|other| digest(other.as_bytes()));
        let mut all: Vec<_> = [&digests[..], &[digest(same[0].as_bytes())]].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), others.len() + 1);
    }

    #[test]
    fn json_is_said_once_and_plainly() {
        for (values, json) in [
            (&["application/json"][..], true),
            (&["Application/JSON; charset=utf-8"], true),
            (&[], false),
            (&["text/plain"], false),
            (&["application/jsonp"], false),
            (&["application/json", "application/json"], false),
        ] {
            assert_eq!(
                is_json(&headers(&header::CONTENT_TYPE, values)),
                json,
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_query_names_a_guild_once() {
        let guild = GuildId::new(7).unwrap();
        for (query, expected) in [
            ("", Some(None)),
            ("guildId=7", Some(Some(guild))),
            ("_=1&guildId=7", Some(Some(guild))),
            ("guild%49d=7", Some(Some(guild))),
            ("guildId=7&guildId=7", None),
            ("a=1&a=2", None),
            ("guildId=", None),
            ("guildId=0", None),
            ("guildId=07", None),
            ("guildId=-1", None),
            ("guildId=18446744073709551616", None),
        ] {
            assert_eq!(guild_of(query).ok(), expected, "{query}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        for (body, fields) in [
            ("", &[][..]),
            ("[]", &[]),
            (r#"["Kitchen"]"#, &[]),
            ("null", &[]),
            ("{", &[]),
            ("{\"name\":\"a\",\"name\":\"b\"}", &[]),
            ("{\"name\":\"\\ud800\"}", &[]),
            ("{\"name\":7}", &["name"]),
            (
                r#"{"name":"","parentId":"0","userLimit":-1,"guildId":1,"limit":3}"#,
                &["parentId", "userLimit", "guildId", "name", "limit"],
            ),
            (r#"{"userLimit":4.5}"#, &["userLimit"]),
            (r#"{"userLimit":"4"}"#, &["userLimit"]),
            (r#"{"userLimit":100,"x":1}"#, &["userLimit", "x"]),
        ] {
            let error = read_room(&Bytes::from_static(body.as_bytes())).unwrap_err();
            assert_eq!(error.code, Code::BadRequest);
            let named: Vec<_> = error
                .errors
                .iter()
                .map(|problem| problem.field.as_str())
                .collect();
            assert_eq!(named, fields, "{body}");
        }
        let deep = "[".repeat(10_000);
        assert_eq!(
            read_room(&Bytes::from(deep)).unwrap_err().code,
            Code::BadRequest
        );
    }

    #[test]
    fn what_is_absent_or_null_is_left_to_the_hub() {
        for body in [
            "{}",
            r#"{"name":null,"parentId":null,"userLimit":null,"guildId":null}"#,
        ] {
            assert_eq!(
                read_room(&Bytes::from_static(body.as_bytes())).unwrap(),
                CreateRoom::default()
            );
        }
    }
}
