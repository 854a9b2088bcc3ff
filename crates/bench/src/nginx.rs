//! nginx as a reverse proxy: the least that a proxy of this kind costs in practice.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::Process;

/// How long it may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Starts it, if it is installed.
pub(crate) fn start(upstream: SocketAddr) -> anyhow::Result<Option<(Process, SocketAddr)>> {
    let there = Command::new("nginx").arg("-v").stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let folder = tempfile::tempdir()?.keep();
    let config = folder.join("nginx.conf");
    std::fs::write(&config, configuration(address, upstream, &folder.display().to_string()))?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&config).arg("-p").arg(&folder).stderr(Stdio::null());
    let process = Process::start(command)?;
    let began = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        anyhow::ensure!(began.elapsed() < READY_WITHIN, "nginx does not answer");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Some((process, address)))
}

/// One worker, connections to the upstream kept, nothing buffered in a stream, nothing logged.
fn configuration(address: SocketAddr, upstream: SocketAddr, folder: &str) -> String {
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 2048; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {folder}/body;\n  proxy_temp_path {folder}/proxy;\n  \
         fastcgi_temp_path {folder}/fastcgi;\n  uwsgi_temp_path {folder}/uwsgi;\n  scgi_temp_path {folder}/scgi;\n  \
         keepalive_requests 100000000;\n  tcp_nodelay on;\n  client_body_buffer_size 2m;\n  client_max_body_size 8m;\n  \
         upstream up {{ server {upstream}; keepalive 256; keepalive_requests 100000000; }}\n  \
         server {{\n    listen {address};\n    location / {{\n      proxy_pass http://up;\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n      proxy_buffering off;\n    }}\n  }}\n}}\n"
    )
}
