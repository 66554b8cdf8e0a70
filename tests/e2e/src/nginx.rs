//! nginx, as docs/operations.md configures it, in front of a hub.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use world::{Folder, eventually, free_addresses};

use crate::documents::block;
use crate::tools::tool;

/// The documented configuration, running on loopback. Dropping it ends it.
pub struct Nginx {
    process: Child,
    /// Its address, in place of the hub's public one.
    pub url: String,
    /// Its configuration and its error log, `error.log`.
    pub folder: Folder,
}

impl Nginx {
    /// Starts nginx without TLS in front of a hub; `None` if nginx is not installed.
    pub async fn start(hub_url: &str) -> Option<Self> {
        let program = tool("nginx")?;
        let folder = Folder::new();
        let [address] = free_addresses();
        let site = replaced(
            &block("nginx").text,
            "listen 443 ssl;",
            &format!("listen {address};"),
        );
        let site = replaced(&site, "http://127.0.0.1:3000", hub_url);
        let site: String = site
            .lines()
            .filter(|line| !line.trim_start().starts_with("ssl_certificate"))
            .map(|line| format!("{line}\n"))
            .collect();
        let file = write_configuration(folder.path(), &site);
        let process = Command::new(program)
            .arg("-p")
            .arg(folder.path())
            .args(["-e", "error.log", "-c"])
            .arg(file)
            // One process, so that its end is the end of all of it.
            .args(["-g", "daemon off; master_process off;"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self {
            process,
            url: format!("http://{address}"),
            folder,
        };
        eventually("nginx listens", || async {
            tokio::net::TcpStream::connect(&address).await.ok()
        })
        .await;
        Some(nginx)
    }

    /// What it complained of.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Writes a whole configuration of the documented blocks and a site into a folder; its path.
pub fn write_configuration(folder: &Path, site: &str) -> String {
    let main = block("nginx: main").text;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {};\n", folder.join(kind).display()))
        .concat();
    let pid = folder.join("nginx.pid");
    let text = format!(
        "pid {};\n{main}\nhttp {{\naccess_log off;\n{temporary}\n{site}\n}}\n",
        pid.display()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// The text with something in it replaced that stands there once.
pub fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} in:\n{text}");
    text.replace(from, to)
}
