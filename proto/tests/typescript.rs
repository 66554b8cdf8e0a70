//! The TypeScript types of the SDK are generated from the Rust types.
//!
//! `UPDATE_WIRE=1 cargo test -p proto --test typescript` rewrites them.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::path::Path;

use proto::close::{Advice, CloseCode};
use proto::{ChannelId, GuildId, UserId, event, frame, gateway, problem, rest};
use ts_rs::{Config, TS};

const GENERATED: &str = "../web/sdk/src/wire/index.ts";

fn declare<T: TS>(text: &mut String, config: &Config) {
    if let Some(docs) = T::docs() {
        text.push_str(&docs);
    }
    writeln!(text, "export {}\n", T::decl(config)).unwrap();
}

fn typescript() -> String {
    let config = Config::default();
    let mut text = String::from(
        "// Generated from the Rust crate `proto`; do not edit.\n\
         // UPDATE_WIRE=1 cargo test -p proto --test typescript\n\n",
    );
    macro_rules! declare_all { ($($type:ty),* $(,)?) => { $(declare::<$type>(&mut text, &config);)* } }
    declare_all!(
        GuildId,
        ChannelId,
        UserId,
        frame::ClientFrame,
        frame::Correlation,
        frame::ServerFrame,
        frame::AckFrame,
        frame::Ack,
        frame::EventFrame,
        frame::ViewEvent,
        frame::RoomPayload,
        frame::SnapshotRoom,
        frame::VoicePayload,
        frame::SnapshotPayload,
        frame::NoticeFrame,
        frame::Notice,
        frame::ErrorFrame,
        frame::FrameError,
        event::Member,
        event::VoiceFlags,
        gateway::GatewayState,
        gateway::GatewayPayload,
        rest::CreateRoom,
        rest::CreatedRoom,
        rest::CreateInvite,
        rest::Invite,
        rest::EndedRoom,
        rest::RoomList,
        rest::ConsoleConfig,
        rest::SignIn,
        problem::Code,
        problem::Problem,
        problem::FieldProblem,
        Advice,
    );
    text.push_str("/** What a client does after each close code; any other: `comeBack`. */\n");
    text.push_str("export const CLOSE_ADVICE: Readonly<Record<number, Advice>> = {\n");
    for close in CloseCode::ALL {
        let advice = serde_json::to_string(&close.advice()).unwrap();
        writeln!(text, "  {}: {advice},", close.code()).unwrap();
    }
    text.push_str("};\n\n/** The codes after which the same request may succeed later. */\n");
    let retriable: Vec<_> = problem::Code::ALL
        .iter()
        .filter(|code| code.retriable())
        .map(|code| code.name())
        .collect();
    writeln!(
        text,
        "export const RETRIABLE: ReadonlySet<Code> = new Set({});",
        serde_json::to_string(&retriable).unwrap()
    )
    .unwrap();
    text
}

#[test]
fn the_typescript_types_are_those_of_the_rust_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GENERATED);
    let expected = typescript();
    #[expect(
        clippy::disallowed_methods,
        reason = "asks whether to write instead of compare"
    )]
    if std::env::var_os("UPDATE_WIRE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} differs from the Rust types; UPDATE_WIRE=1 rewrites it",
        path.display()
    );
}
