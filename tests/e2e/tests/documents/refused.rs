//! Refusals that are sent while the client still sends its body arrive: directly at the clients of
//! common languages, and through the reverse proxy of docs/operations.md.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::Nginx;
use e2e::tools::tool;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use world::World;

/// How long one refusal may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);
/// Body sizes, in bytes.
const SIZES: [usize; 5] = [17_000, 70_000, 300_000, 1024 * 1024, 2 * 1024 * 1024];
/// How often each kind is sent with each size, so that 200 are sent in all.
const ROUNDS: usize = 4;

/// Reads the requests from its input, sends them, and prints the answer to each.
const PYTHON: &str = r#"
import json, sys, urllib.error, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
answers = []
for each in json.load(sys.stdin):
    request = urllib.request.Request(
        each["url"], b"x" * each["length"], each["headers"], method=each["method"])
    try:
        answers.append("not refused: %d" % opener.open(request, timeout=20).status)
    except urllib.error.HTTPError as refusal:
        try:
            answers.append([refusal.code, json.load(refusal)["status"]])
        except Exception as error:
            answers.append(repr(error))
    except Exception as error:
        answers.append(repr(error))
print(json.dumps(answers))
"#;
/// As [`PYTHON`].
const NODE: &str = r#"
const requests = JSON.parse(require('node:fs').readFileSync(0, 'utf8'))
async function run() {
  const answers = []
  for (const { url, method, headers, length } of requests) {
    const signal = AbortSignal.timeout(20_000)
    try {
      const answer = await fetch(url, { method, headers, body: 'x'.repeat(length), signal })
      answers.push([answer.status, (await answer.json()).status])
    } catch (error) {
      answers.push(`${error} ${error.cause}`)
    }
  }
  console.log(JSON.stringify(answers))
}
run()
"#;

/// Requests that the hub refuses, most of them before it has read their body.
struct Refused {
    requests: Vec<Value>,
    /// The status of each.
    expected: Vec<u16>,
}

async fn refused(world: &World) -> Refused {
    let good = world.token(json!({ "sub": "ada" })).await;
    let expired = world.token(json!({ "sub": "ada", "ttl": -600 })).await;
    let headers = |token: Option<&str>, media: &str| match token {
        Some(token) => {
            json!({ "Authorization": format!("Bearer {token}"), "Content-Type": media })
        }
        None => json!({ "Content-Type": media }),
    };
    let json_of = |token| headers(token, "application/json");
    let kinds = [
        ("POST", "/api/create-room", json_of(None), 401),
        ("POST", "/api/create-room", json_of(Some(&expired)), 401),
        ("POST", "/api/create-room", json_of(Some(&good)), 413),
        ("PUT", "/api/create-room", json_of(Some(&good)), 405),
        ("DELETE", "/api/end-room/1", json_of(None), 401),
        ("POST", "/api/nothing", json_of(Some(&good)), 404),
        ("POST", "/nothing", headers(None, "text/plain"), 404),
        ("POST", "/health", headers(None, "text/plain"), 405),
        ("POST", "/console.json", json_of(Some(&good)), 405),
        // The signature is verified over the whole body, which has to fit first.
        ("POST", "/interactions", json_of(None), 413),
    ];
    let mut refused = Refused {
        requests: Vec::new(),
        expected: Vec::new(),
    };
    for _ in 0..ROUNDS {
        for length in SIZES {
            for (method, path, headers, status) in &kinds {
                let url = format!("{}{path}", world.hub_url);
                refused.requests.push(
                    json!({ "url": url, "method": method, "headers": headers, "length": length }),
                );
                let is_read = *path == "/interactions" && length <= 64 * 1024;
                refused.expected.push(if is_read { 401 } else { *status });
            }
        }
    }
    refused
}

impl Refused {
    /// Every answer is the expected refusal, whole.
    fn check(&self, way: &str, answers: &[Value]) {
        assert_eq!(answers.len(), self.requests.len());
        let mut lost = Vec::new();
        for ((request, expected), answer) in self.requests.iter().zip(&self.expected).zip(answers) {
            if *answer != json!([expected, expected]) {
                lost.push(format!(
                    "{} {} {}: {answer}, not {expected}",
                    request["method"], request["url"], request["length"]
                ));
            }
        }
        let arrived = answers.len() - lost.len();
        // Not captured by the test harness, so that a passing run shows it too.
        let _written = writeln!(
            std::io::stderr(),
            "{way}: {arrived} of {} refusals arrived",
            answers.len()
        );
        assert!(lost.is_empty(), "{way}: {lost:#?}");
    }

    /// Sends the requests with a program, and checks what it prints.
    async fn send_with(&self, way: &str, program: &Path, args: &[&str]) {
        let mut command = Command::new(program);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let input = serde_json::to_vec(&self.requests).unwrap();
        let running = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            // The programs read all of it before they print.
            child.stdin.take().unwrap().write_all(&input).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = running.await.unwrap();
        assert!(output.status.success(), "{output:?}");
        let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        self.check(way, &answers);
    }
}

/// Sends all of a request before it reads, and reads to the end: the answer, or how it failed.
async fn send_then_read(request: &Value) -> Value {
    let url = request["url"].as_str().unwrap();
    let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let method = request["method"].as_str().unwrap();
    let length = request["length"].as_u64().unwrap();
    let mut head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n"
    );
    for (name, value) in request["headers"].as_object().unwrap() {
        head.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap()));
    }
    head.push_str("\r\n");
    let body = vec![b'x'; usize::try_from(length).unwrap()];
    let exchanged = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = match timeout(DEADLINE, exchanged).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return json!(error.to_string()),
        Err(_) => return json!("no end at the deadline"),
    };
    let status = answer
        .get(9..12)
        .and_then(|status| status.parse::<u16>().ok());
    let problem = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    // A body of unknown length comes in chunks; the problem is the one line that is JSON.
    let problem = problem.and_then(|body| {
        let mut lines = body.lines();
        lines.find_map(|line| {
            serde_json::from_str::<Value>(line)
                .ok()
                .filter(Value::is_object)
        })
    });
    match (status, problem) {
        (Some(status), Some(problem)) => json!([status, problem["status"]]),
        _ => json!(answer),
    }
}

#[tokio::test]
async fn two_hundred_refusals_arrive_through_the_documented_nginx() {
    let mut world = World::start().await;
    let Some(nginx) = Nginx::start(&world.hub_url).await else {
        return;
    };
    world.hub_url.clone_from(&nginx.url);
    let refused = refused(&world).await;
    let mut answers = Vec::new();
    for request in &refused.requests {
        answers.push(send_then_read(request).await);
    }
    refused.check("nginx", &answers);
}

#[tokio::test]
async fn two_hundred_refusals_arrive_at_the_urllib_of_python() {
    let Some(python) = tool("python3") else {
        return;
    };
    let world = World::start().await;
    let refused = refused(&world).await;
    refused.send_with("urllib", &python, &["-c", PYTHON]).await;
}

#[tokio::test]
async fn two_hundred_refusals_arrive_at_the_fetch_of_node() {
    let Some(node) = tool("node") else {
        return;
    };
    let world = World::start().await;
    let refused = refused(&world).await;
    refused.send_with("fetch", &node, &["-e", NODE]).await;
}
