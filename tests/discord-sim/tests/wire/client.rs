//! A simulator on a free port, and a bot that talks to it.

use std::net::SocketAddr;
use std::time::Duration;

use discord_sim::Settings;
use flate2::{Decompress, FlushDecompress};
use futures_util::{SinkExt, StreamExt};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

pub(crate) const GUILD: &str = "100000000000000001";
pub(crate) const CATEGORY: &str = "100000000000000010";
pub(crate) const LOUNGE: &str = "100000000000000011";
pub(crate) const STUDY_HALL: &str = "100000000000000012";
pub(crate) const STAFF_ROOM: &str = "100000000000000013";
pub(crate) const TEXT: &str = "100000000000000014";
pub(crate) const BOT_ROLE: &str = "100000000000000021";
pub(crate) const ADA: &str = "200000000000000001";
pub(crate) const GRACE: &str = "200000000000000002";
pub(crate) const BOT: &str = "300000000000000001";

/// GUILDS and `GUILD_VOICE_STATES`.
pub(crate) const INTENTS: u64 = 1 | 1 << 7;

/// How long a fact may take to come true.
const DEADLINE: Duration = Duration::from_secs(8);

/// A running simulator; it ends with this value.
pub(crate) struct Discord {
    pub(crate) address: SocketAddr,
    pub(crate) http: Client,
    shutdown: CancellationToken,
}

impl Drop for Discord {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Settings for tests: nothing is limited unless a test is about the limit.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::quiet();
    settings.sim_identify_every_ms = 0;
    settings.sim_route_requests = 10_000;
    settings.sim_global_per_s = 10_000;
    settings
}

impl Discord {
    pub(crate) async fn start() -> Self {
        Self::start_with(settings()).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(discord_sim::run(listener, settings, shutdown.clone()));
        let http = Client::builder()
            .no_proxy()
            .timeout(DEADLINE)
            .build()
            .unwrap();
        Self {
            address,
            http,
            shutdown,
        }
    }

    /// Asks it to end.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    pub(crate) async fn state(&self) -> Value {
        self.control("GET", "state", None).await.1
    }

    pub(crate) async fn counter(&self, name: &str) -> u64 {
        self.state().await["counters"][name].as_u64().unwrap()
    }

    pub(crate) async fn control(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let url = format!("http://{}/_sim/{path}", self.address);
        let mut request = self.http.request(method.parse().unwrap(), url);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// A control call that must be accepted.
    pub(crate) async fn post_control(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.control("POST", path, Some(body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub(crate) async fn voice(&self, user: &str, channel: Option<&str>) -> Value {
        self.post_control(
            "voice",
            json!({"guildId": GUILD, "userId": user, "channelId": channel}),
        )
        .await
    }

    pub(crate) async fn gateway(&self, body: Value) {
        self.post_control("gateway", body).await;
    }

    pub(crate) fn api(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("http://{}/api/v10{path}", self.address))
            .header("authorization", "Bot sim-token")
    }

    /// A REST call of the bot: status and body (null if there is none).
    pub(crate) async fn rest(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.api(method.parse().unwrap(), path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// Asks for a channel of the first guild: status and body.
    pub(crate) async fn create(&self, channel: Value) -> (u16, Value) {
        let path = format!("/guilds/{GUILD}/channels");
        self.rest("POST", &path, Some(channel)).await
    }

    pub(crate) async fn connect(&self) -> Bot {
        self.connect_by("?v=10&encoding=json").await
    }

    pub(crate) async fn connect_by(&self, query: &str) -> Bot {
        let url = format!("ws://{}/{query}", self.address);
        let (socket, _) = connect_async(url).await.unwrap();
        let unpack = query.contains("zlib-stream").then(|| Decompress::new(true));
        Bot {
            socket,
            unpack,
            seq: 0,
            session: String::new(),
            resume_url: String::new(),
        }
    }

    /// A bot whose session has begun and who has got its guilds.
    pub(crate) async fn ready(&self) -> Bot {
        let mut bot = self.connect().await;
        bot.hello().await;
        bot.identify(json!({})).await;
        bot.until("GUILD_CREATE").await;
        bot
    }
}

/// One gateway connection.
pub(crate) struct Bot {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    unpack: Option<Decompress>,
    pub(crate) seq: u64,
    pub(crate) session: String,
    pub(crate) resume_url: String,
}

impl Bot {
    pub(crate) async fn send(&mut self, payload: Value) {
        self.socket
            .send(Message::text(payload.to_string()))
            .await
            .unwrap();
    }

    pub(crate) async fn send_raw(&mut self, text: &str) {
        self.socket
            .send(Message::text(text.to_owned()))
            .await
            .unwrap();
    }

    /// The next payload; a close is `{"close": code}`, a cut connection `{"close": null}`.
    pub(crate) async fn next(&mut self) -> Value {
        let message = timeout(DEADLINE, self.socket.next())
            .await
            .expect("nothing came in time");
        let text = match message {
            Some(Ok(Message::Text(text))) => text.to_string(),
            Some(Ok(Message::Binary(packed))) => self.unpacked(&packed),
            Some(Ok(Message::Close(frame))) => {
                return json!({"close": frame.map(|frame| u16::from(frame.code))});
            }
            Some(Ok(other)) => panic!("unexpected {other:?}"),
            Some(Err(_)) | None => return json!({"close": null}),
        };
        let payload: Value = serde_json::from_str(&text).unwrap();
        if let Some(seq) = payload["s"].as_u64() {
            assert_eq!(seq, self.seq + 1, "a hole in the sequence before {payload}");
            self.seq = seq;
        }
        payload
    }

    fn unpacked(&mut self, packed: &[u8]) -> String {
        assert!(packed.ends_with(&[0, 0, 0xff, 0xff]), "no flush at the end");
        let stream = self.unpack.as_mut().expect("binary without zlib-stream");
        let mut plain = Vec::with_capacity(1 << 20);
        stream
            .decompress_vec(packed, &mut plain, FlushDecompress::Sync)
            .unwrap();
        String::from_utf8(plain).unwrap()
    }

    pub(crate) async fn hello(&mut self) -> u64 {
        let hello = self.next().await;
        assert_eq!(hello["op"], 10, "{hello}");
        hello["d"]["heartbeat_interval"].as_u64().unwrap()
    }

    /// Identifies; `changes` replaces fields of the payload.
    pub(crate) async fn identify(&mut self, changes: Value) {
        let mut data = json!({
            "token": "sim-token", "intents": INTENTS,
            "properties": {"os": "linux", "browser": "test", "device": "test"},
        });
        for (key, value) in changes.as_object().unwrap() {
            data[key] = value.clone();
        }
        self.send(json!({"op": 2, "d": data})).await;
    }

    pub(crate) async fn resume(&mut self, session: &str, seq: u64) {
        self.seq = seq;
        self.send(json!({"op": 6, "d": {"token": "sim-token", "session_id": session, "seq": seq}}))
            .await;
    }

    /// The next dispatch of this name, passing over others; remembers the session of READY.
    pub(crate) async fn until(&mut self, event: &str) -> Value {
        for _ in 0..10_000 {
            let payload = self.next().await;
            assert!(
                payload.get("close").is_none(),
                "closed while waiting for {event}: {payload}"
            );
            if payload["t"] == "READY" {
                self.session = payload["d"]["session_id"].as_str().unwrap().to_owned();
                self.resume_url = payload["d"]["resume_gateway_url"]
                    .as_str()
                    .unwrap()
                    .to_owned();
            }
            if payload["t"] == event {
                return payload["d"].clone();
            }
        }
        panic!("no {event} among 10,000 payloads");
    }

    /// The next payload with this opcode, passing over others.
    pub(crate) async fn until_op(&mut self, op: u64) -> Value {
        loop {
            let payload = self.next().await;
            assert!(
                payload.get("close").is_none(),
                "closed while waiting for op {op}: {payload}"
            );
            if payload["op"] == op {
                return payload;
            }
        }
    }

    /// The code that the connection is closed with; none: it was cut.
    pub(crate) async fn closed(&mut self) -> Option<u64> {
        loop {
            let payload = self.next().await;
            if let Some(code) = payload.get("close") {
                return code.as_u64();
            }
        }
    }

    /// What is dispatched until an acknowledged heartbeat proves that there is nothing more.
    pub(crate) async fn rest_of(&mut self) -> Vec<String> {
        self.send(json!({"op": 1, "d": self.seq})).await;
        let mut names = Vec::new();
        loop {
            let payload = self.next().await;
            match payload["t"].as_str() {
                Some(name) => names.push(name.to_owned()),
                None if payload["op"] == 11 => return names,
                None => panic!("unexpected {payload}"),
            }
        }
    }

    pub(crate) async fn close(mut self, code: u16) {
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        self.socket.close(Some(frame)).await.unwrap();
        // The goodbye is whole when the other side has answered.
        while let Ok(Some(Ok(_))) = timeout(DEADLINE, self.socket.next()).await {}
    }
}
