//! The simulator, the issuer, the hub and the worker, started together.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::http::{pooled, unpooled};
use crate::settings::{Addresses, borrowed, hub_settings, sim_settings, worker_settings};
use crate::{
    Browser, Folder, Issuer, Launch, Output, Process, Scrape, Signal, Simulator, eventually,
    free_addresses, within,
};

/// How long a killed process may take to end.
const KILL_MAX: Duration = Duration::from_secs(5);

/// One of the two programs under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The gateway worker.
    Worker,
    /// The hub.
    Hub,
}

/// Everything that runs. The fields are dropped in this order: a program ends before those that it
/// depends on.
pub struct World {
    /// The gateway worker.
    pub worker: Process,
    /// The hub.
    pub hub: Process,
    /// The issuer of tokens.
    pub issuer: Process,
    /// The simulated Discord.
    pub sim: Process,
    /// The simulated Discord's control side.
    pub discord: Simulator,
    /// A client of the issuer.
    pub tokens: Issuer,
    /// The hub's public URL.
    pub hub_url: String,
    /// The hub's internal URL.
    pub internal_url: String,
    /// The worker's URL.
    pub worker_url: String,
    /// An HTTP client that opens a connection for each request.
    pub http: Client,
    /// The folder of the hub's store, `hub.db`, unless the plan names another store.
    pub folder: Folder,
    /// The output of former processes: the hub's, the worker's.
    past_logs: [String; 2],
}

/// How a world differs from the usual one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan<'a> {
    /// Changed settings of the hub.
    pub hub: &'a [(&'a str, &'a str)],
    /// Changed settings of the worker.
    pub worker: &'a [(&'a str, &'a str)],
    /// Changed settings of the simulator.
    pub sim: &'a [(&'a str, &'a str)],
    /// The hub's program; empty: `hub`.
    pub hub_program: &'a str,
    /// The worker's program; empty: `gateway-worker`.
    pub worker_program: &'a str,
    /// A shell's words before hub and worker, such as a limit.
    pub prelude: &'a str,
    /// The hub's internal address and the simulator's, where something must know them before.
    pub addresses: Option<[&'a str; 2]>,
    /// Where the programs write.
    pub output: Output,
}

impl World {
    /// A quiet world: nobody moves unless a test asks for it.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A quiet world with changed settings of the hub.
    pub async fn with(hub_settings: &[(&str, &str)]) -> Self {
        Self::of(Plan {
            hub: hub_settings,
            ..Plan::default()
        })
        .await
    }

    /// A quiet world by this plan.
    pub async fn of(plan: Plan<'_>) -> Self {
        let [mut sim, issuer, hub, mut internal, worker] = free_addresses();
        if let Some(known) = plan.addresses {
            [internal, sim] = known.map(str::to_owned);
        }
        let at = Addresses {
            sim,
            issuer,
            hub,
            internal,
            worker,
        };
        let (http, control) = (unpooled(), pooled());
        let [sim_url, issuer_url, hub_url, internal_url, worker_url] =
            [&at.sim, &at.issuer, &at.hub, &at.internal, &at.worker]
                .map(|at| format!("http://{at}"));
        let launch = |name: &str, usual: &[(&'static str, String)], changes| {
            let launch = Launch::of(name).with(&borrowed(usual)).with(changes);
            launch.writing_to(plan.output)
        };
        let mut sim = launch("discord-sim", &sim_settings(&at), plan.sim).start();
        let mut issuer = launch(
            "dev-issuer",
            &[("ISSUER_LISTEN", at.issuer.clone())],
            &[("LOG_LEVEL", "warn")],
        )
        .start();
        let discord = Simulator::new(control.clone(), sim_url);
        let tokens = Issuer::new(control, issuer_url);
        sim.ready(&http, &format!("{}/_sim/state", discord.url))
            .await;
        issuer.ready(&http, &tokens.keys_url()).await;

        let folder = Folder::new();
        let mut usual = hub_settings(&at, &folder.store_url());
        let state = discord.state().await;
        let public_key = state["publicKey"].as_str().expect("the simulator's key");
        usual.push(("DISCORD_PUBLIC_KEY", public_key.to_owned()));
        let hub = launch(named(plan.hub_program, "hub"), &usual, plan.hub);
        let program = named(plan.worker_program, "gateway-worker");
        let worker = launch(program, &worker_settings(&at), plan.worker);
        let mut world = Self {
            worker: worker.after(plan.prelude).start(),
            hub: hub.after(plan.prelude).start(),
            issuer,
            sim,
            discord,
            tokens,
            hub_url,
            internal_url,
            worker_url,
            http,
            folder,
            past_logs: Default::default(),
        };
        world.hub_ready().await;
        world.worker_ready().await;
        // The hub may acknowledge a worker's first beat before it has the guild.
        eventually("the hub has a guild", || async {
            let url = format!("{}/health", world.internal_url);
            let answer = world.http.get(url).send().await.ok()?;
            let health: Value = answer.json().await.ok()?;
            (health["guilds"]["live"].as_u64()? > 0).then_some(())
        })
        .await;
        world
    }

    /// Panics with its log if a program has ended.
    pub fn assert_running(&mut self) {
        for process in [
            &mut self.worker,
            &mut self.hub,
            &mut self.issuer,
            &mut self.sim,
        ] {
            process.assert_running();
        }
    }

    /// Ends every program and waits for its end.
    pub async fn stop(mut self) {
        for process in [
            &mut self.worker,
            &mut self.hub,
            &mut self.issuer,
            &mut self.sim,
        ] {
            process.kill().await;
        }
    }

    /// Waits until the hub is ready.
    pub async fn hub_ready(&mut self) {
        let url = format!("{}/readyz", self.internal_url);
        self.hub.ready(&self.http, &url).await;
    }

    /// Waits until the worker is live and the hub has acknowledged.
    pub async fn worker_ready(&mut self) {
        let url = format!("{}/readyz", self.worker_url);
        self.worker.ready(&self.http, &url).await;
    }

    /// The process of this side.
    pub fn process(&mut self, side: Side) -> &mut Process {
        match side {
            Side::Worker => &mut self.worker,
            Side::Hub => &mut self.hub,
        }
    }

    /// Ends this side by SIGKILL, if it runs; false if it still runs after a while.
    pub async fn kill(&mut self, side: Side) -> bool {
        let process = self.process(side);
        process.signal(Signal::KILL);
        within(KILL_MAX, || process.running().is_none()).await
    }

    /// Starts this side again with changed settings. The former process ends, if it still runs.
    pub fn restart(&mut self, side: Side, changes: &[(&str, &str)]) {
        let next = self.process(side).again_with(changes);
        self.replace(side, next);
    }

    /// Puts another process in the place of this side's. The former one ends, if it still runs.
    pub fn replace(&mut self, side: Side, next: Process) {
        let former = std::mem::replace(self.process(side), next);
        self.past_logs[usize::from(side == Side::Worker)].push_str(&former.log());
    }

    /// The output of this side's process and of those before it.
    pub fn log(&self, side: Side) -> String {
        let process = match side {
            Side::Worker => &self.worker,
            Side::Hub => &self.hub,
        };
        let past = &self.past_logs[usize::from(side == Side::Worker)];
        format!("{past}{}", process.log())
    }

    /// Writes the output of the hub, the worker and the simulator into this folder.
    pub fn keep_logs(&self, folder: &Path) {
        for (name, log) in [
            ("hub", self.log(Side::Hub)),
            ("worker", self.log(Side::Worker)),
            ("sim", self.sim.log()),
        ] {
            std::fs::write(folder.join(format!("{name}.log")), log).unwrap();
        }
    }

    /// Kills the hub and starts it again.
    pub async fn restart_hub(&mut self) {
        self.kill(Side::Hub).await;
        self.restart(Side::Hub, &[]);
        self.hub_ready().await;
    }

    /// Kills the worker and starts it again.
    pub async fn restart_worker(&mut self) {
        self.kill(Side::Worker).await;
        self.restart(Side::Worker, &[]);
        self.worker_ready().await;
    }

    /// Issues a token with these claims.
    pub async fn token(&self, claims: Value) -> String {
        self.tokens.token(claims).await
    }

    /// A browser of this person, subscribed.
    pub async fn browser(&self, sub: &str) -> Browser {
        let token = self.token(json!({ "sub": sub })).await;
        let mut browser = self.browser_of(&token).await;
        browser.event("guild.snapshot").await;
        browser
    }

    /// A browser that has sent this token, and has read nothing yet.
    pub async fn browser_of(&self, token: &str) -> Browser {
        let mut browser = Browser::open(&self.hub_url).await;
        let auth = json!({ "type": "auth", "token": token });
        browser.send(&auth).await;
        browser
    }

    /// Sends a request to the hub's REST with a token of these claims.
    pub async fn rest(
        &self,
        method: Method,
        path: &str,
        claims: Value,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let token = self.token(claims).await;
        self.rest_with(method, path, &token, body).await
    }

    /// Sends a request to the hub's REST with this token.
    pub async fn rest_with(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.hub_url);
        let mut request = self.http.request(method, url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or(Value::Null))
    }

    /// As [`Simulator::control`].
    pub async fn control(&self, path: &str, body: Value) -> Value {
        self.discord.control(path, body).await
    }

    /// As [`Simulator::change_channel`].
    pub async fn change_channel(&self, id: &str, body: Value) {
        self.discord.change_channel(id, body).await;
    }

    /// As [`Simulator::voice`].
    pub async fn voice(&self, user: &str, channel: Option<&str>) {
        self.discord.voice(user, channel).await;
    }

    /// As [`Simulator::state`].
    pub async fn truth(&self) -> Value {
        self.discord.state().await
    }

    /// As [`Simulator::channels`].
    pub async fn channels(&self) -> Value {
        self.discord.channels().await
    }

    /// Asserts that Discord counts one identify, at the beginning, and one resume.
    pub async fn resumed_once(&self) {
        let counters = &self.truth().await["counters"];
        let counted = (&counters["identify"], &counters["resume"]);
        assert_eq!(counted, (&json!(1), &json!(1)), "identifies, resumes");
    }

    /// The metrics of the hub and of the worker.
    pub async fn scrapes(&self) -> [Scrape; 2] {
        let (hub, worker) = tokio::join!(
            self.scraped(&self.internal_url),
            self.scraped(&self.worker_url)
        );
        [Scrape::read(&hub), Scrape::read(&worker)]
    }

    /// The text of the metrics at an internal URL.
    pub async fn scraped(&self, url: &str) -> String {
        self.text(&format!("{url}/metrics")).await
    }

    /// One of the hub's metrics, summed over its labels; 0 while it was never counted.
    pub async fn hub_metric(&self, name: &str) -> f64 {
        Scrape::read(&self.scraped(&self.internal_url).await).sum(name, &[])
    }

    /// The hub's and the worker's metrics and logs, and what the hub answers about itself.
    pub async fn outputs(&self) -> String {
        let mut text = format!("{}\n{}", self.hub.log(), self.worker.log());
        for url in [
            format!("{}/metrics", self.internal_url),
            format!("{}/health", self.internal_url),
            format!("{}/metrics", self.worker_url),
            format!("{}/health", self.worker_url),
            format!("{}/health", self.hub_url),
        ] {
            text.push_str(&self.text(&url).await);
        }
        text
    }

    async fn text(&self, url: &str) -> String {
        let answer = self.http.get(url).send().await.unwrap();
        answer.text().await.unwrap()
    }
}

fn named<'a>(program: &'a str, usual: &'a str) -> &'a str {
    if program.is_empty() { usual } else { program }
}
