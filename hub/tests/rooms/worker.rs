//! A worker for tests: it claims the shard and delivers events.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::GuildId;
use proto::chain::{CLAIM_TYPE, Claim, GatewaySession, Link, Mark, Reached};
use proto::event::Event;
use roomlog::{Appended, Log, NotTaken};
use serde_json::{Value, json};

pub(crate) struct Worker {
    log: Log,
    generation: u64,
    session: u64,
    delivered: AtomicU64,
}

impl Worker {
    /// Takes the shard of these guilds.
    pub(crate) async fn claim(log: &Log, guilds: &[GuildId]) -> Self {
        let claim = Claim {
            r#type: CLAIM_TYPE.to_owned(),
            shard: (0, 1),
            worker: "test".to_owned(),
            guilds: guilds.to_vec(),
            memory: true,
        };
        let claimed = log.claim("claim".to_owned(), claim).await.unwrap();
        Self {
            log: log.clone(),
            generation: claimed.generation,
            session: claimed.last_session + 1,
            delivered: AtomicU64::new(0),
        }
    }

    /// Delivers one event.
    pub(crate) async fn deliver(&self, event: &str, payload: Value) -> Result<Appended, NotTaken> {
        let sequence = self.delivered.fetch_add(1, Ordering::Relaxed) + 1;
        let at = Reached {
            session: self.session,
            sequence,
        };
        let id = format!("{}:{sequence}:0", self.session);
        let event = json!({"id": id, "event": event, "ts": 1, "payload": payload});
        let mut event: Event = serde_json::from_value(event).unwrap();
        event.at = Some(Mark { reached: at, n: 0 });
        let link = Link {
            shard: (0, 1),
            generation: self.generation,
            from: Reached::default(),
            taken: 0,
            to: at,
            session: Some(GatewaySession {
                number: self.session,
                id: "session".to_owned(),
                resume_url: None,
            }),
            fingerprint: "test".to_owned(),
            resumes: 0,
            lost: 0,
            absent: BTreeMap::new(),
        };
        self.log.deliver(link, vec![event]).await
    }
}
