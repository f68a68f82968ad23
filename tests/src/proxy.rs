//! Stands between a client and an HTTP server (the S3 API), and does to their talk what networks and stores do on bad days.
//!
//! Requests and answers are handed on byte for byte, so that signatures stay valid (the server sees the `Host` that the client
//! signed). What happens to a request is drawn from a seed by the [`Faults`] in force, which may be changed at any time.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

mod message;

use message::{Message, read_request, read_response};

/// What may happen to a request, each with its probability; what is left over is handed on unharmed.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// 503, and the server never sees it.
    pub refused: f64,
    /// The server has done it, and the answer is 500.
    pub done_and_failed: f64,
    /// The connection is cut in the middle of the request, which the server never has whole.
    pub cut_request: f64,
    /// The server has done it, and the connection is cut in the middle of the answer.
    pub cut_response: f64,
    /// It takes up to so long, evenly spread, before the request is handed on.
    pub delay: f64,
    /// The longest delay.
    pub delay_max: Duration,
    /// For a conditional PUT that the server has done: 412, as if somebody else had.
    pub done_and_412: f64,
    /// For a conditional PUT: 412, though the server has not seen it.
    pub false_412: f64,
    /// 403 for everything that would change the store.
    pub read_only: bool,
}

impl Faults {
    /// Nothing happens.
    pub fn none() -> Faults {
        Faults {
            refused: 0.0,
            done_and_failed: 0.0,
            cut_request: 0.0,
            cut_response: 0.0,
            delay: 0.0,
            delay_max: Duration::ZERO,
            done_and_412: 0.0,
            false_412: 0.0,
            read_only: false,
        }
    }

    /// One request in ten fails, in one way or another; others are late; commits are answered wrongly.
    pub fn one_in_ten() -> Faults {
        Faults {
            refused: 0.04,
            done_and_failed: 0.02,
            cut_request: 0.02,
            cut_response: 0.02,
            delay: 0.1,
            delay_max: Duration::from_millis(50),
            done_and_412: 0.2,
            false_412: 0.1,
            read_only: false,
        }
    }
}

/// What has happened, by name.
pub type Tally = BTreeMap<&'static str, u64>;

/// A proxy on a port of 127.0.0.1, gone when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    // Ends the connections.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    random: ChaCha8Rng,
    tally: Tally,
    requests: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unharmed,
    Refused,
    Forbidden,
    Done500,
    CutRequest,
    CutResponse,
    Delayed(Duration),
    Done412,
    False412,
}

impl Proxy {
    /// Hands on to `upstream` (`host:port`).
    pub fn start(upstream: &str, seed: u64, faults: Faults) -> Result<Proxy> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no port for the proxy")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let random = ChaCha8Rng::seed_from_u64(seed);
        let state = Mutex::new(State { faults, random, tally: Tally::new(), requests: 0 });
        let shared = Arc::new(Shared { upstream: upstream.to_owned(), state });
        let accepting = shared.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (client, _) = listener.accept().await?;
                let shared = accepting.clone();
                // How a connection ends is the client's to find out.
                tokio::spawn(async move { serve(client, &shared).await });
            }
            #[allow(unreachable_code, reason = "names the type of the errors")]
            io::Result::Ok(())
        });
        Ok(Proxy { address, shared, runtime: Some(runtime) })
    }

    /// Where clients connect: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From the next request on.
    pub fn set(&self, faults: Faults) {
        self.shared.state().faults = faults;
    }

    /// What has happened so far.
    pub fn tally(&self) -> Tally {
        self.shared.state().tally.clone()
    }

    /// How many requests came, and how many of them were harmed (delays do not count).
    pub fn counts(&self) -> (u64, u64) {
        let state = self.shared.state();
        let harmed = state.tally.iter().filter(|(name, _)| **name != "delayed").map(|(_, count)| count).sum();
        (state.requests, harmed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Not waited for: this may be called within another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, request: &Message) -> Fate {
        let mut state = self.state();
        let State { faults, random, tally, requests } = &mut *state;
        *requests += 1;
        let conditional = request.is_put() && request.header("if-none-match").is_some();
        let mut draw = random.random_range(0.0..1.0);
        let mut falls = |share: f64| {
            draw -= share;
            draw < 0.0
        };
        let (name, fate) = if faults.read_only && !request.is_read() {
            ("403", Fate::Forbidden)
        } else if conditional && falls(faults.done_and_412) {
            ("done, 412", Fate::Done412)
        } else if conditional && falls(faults.false_412) {
            ("not done, 412", Fate::False412)
        } else if falls(faults.refused) {
            ("503", Fate::Refused)
        } else if falls(faults.done_and_failed) {
            ("done, 500", Fate::Done500)
        } else if falls(faults.cut_request) {
            ("cut in the request", Fate::CutRequest)
        } else if falls(faults.cut_response) {
            ("cut in the answer", Fate::CutResponse)
        } else if falls(faults.delay) {
            ("delayed", Fate::Delayed(faults.delay_max.mul_f64(random.random_range(0.0..1.0))))
        } else {
            return Fate::Unharmed;
        };
        *tally.entry(name).or_default() += 1;
        fate
    }
}

/// Serves one connection of a client with one of its own to the server.
async fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    let mut server: Option<BufReader<TcpStream>> = None;
    while let Some(request) = read_request(&mut client).await? {
        let fate = shared.decide(&request);
        match fate {
            Fate::Refused => answer(&mut client, &request, "503 Service Unavailable", "SlowDown").await?,
            Fate::Forbidden => answer(&mut client, &request, "403 Forbidden", "AccessDenied").await?,
            Fate::False412 => answer(&mut client, &request, "412 Precondition Failed", "PreconditionFailed").await?,
            Fate::CutRequest => {
                let mut server = connect(shared).await?;
                server.get_mut().write_all(&request.bytes[..request.bytes.len() / 2]).await?;
                return Ok(());
            }
            Fate::Unharmed | Fate::Delayed(_) | Fate::Done500 | Fate::Done412 | Fate::CutResponse => {
                if let Fate::Delayed(delay) = fate {
                    tokio::time::sleep(delay).await;
                }
                let response = forward(&mut server, shared, &request).await?;
                let done = response.status() / 100 == 2;
                match fate {
                    Fate::Done500 => {
                        answer(&mut client, &request, "500 Internal Server Error", "InternalError").await?
                    }
                    Fate::Done412 if done => {
                        answer(&mut client, &request, "412 Precondition Failed", "PreconditionFailed").await?;
                    }
                    Fate::CutResponse => {
                        client.get_mut().write_all(&response.bytes[..response.bytes.len() / 2]).await?;
                        return Ok(());
                    }
                    _ => client.get_mut().write_all(&response.bytes).await?,
                }
            }
        }
    }
    Ok(())
}

async fn connect(shared: &Shared) -> io::Result<BufReader<TcpStream>> {
    let server = TcpStream::connect(&shared.upstream).await?;
    server.set_nodelay(true)?;
    Ok(BufReader::new(server))
}

/// The server's answer, over the connection that is open, or a new one where the server has closed that.
async fn forward(server: &mut Option<BufReader<TcpStream>>, shared: &Shared, request: &Message) -> io::Result<Message> {
    if let Some(mut open) = server.take() {
        // A server that closes an idle connection has not seen the request: reading says so before anything was written.
        let mut nothing = [0; 1];
        let idle = tokio::time::timeout(Duration::ZERO, open.get_mut().peek(&mut nothing)).await.is_err();
        if idle {
            *server = Some(open);
        }
    }
    let mut open = match server.take() {
        Some(open) => open,
        None => connect(shared).await?,
    };
    open.get_mut().write_all(&request.bytes).await?;
    let response = read_response(&mut open, request.is_head()).await?;
    if !response.closes() {
        *server = Some(open);
    }
    Ok(response)
}

/// An answer as S3 gives it, of the proxy's own.
async fn answer(client: &mut BufReader<TcpStream>, request: &Message, status: &str, code: &str) -> io::Result<()> {
    let body = match request.is_head() {
        true => String::new(),
        false => format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>"),
    };
    let text =
        format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.get_mut().write_all(text.as_bytes()).await
}
