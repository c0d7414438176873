//! A Redis of a test's own.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

/// Ends with the value.
pub struct Redis {
    child: Child,
    pub port: u16,
}

impl Redis {
    /// On a free port; `None`, said aloud, when it is not installed.
    pub fn start() -> Option<Redis> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Redis::start_at(port)
    }

    pub fn start_at(port: u16) -> Option<Redis> {
        let arguments = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        match Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn() {
            Ok(child) => Some(Redis { child, port }),
            Err(error) => {
                eprintln!("SKIPPED: redis-server does not start: {error}; install it to have this test");
                None
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
