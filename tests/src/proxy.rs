//! A proxy between a client and an HTTP server (the S3 API). It disturbs their traffic as networks
//! and stores do on bad days.
//!
//! The proxy forwards requests and answers byte for byte, so signatures stay valid (the server sees
//! the `Host` that the client signed). The [`Faults`] in force, which may change at any time, and a
//! seed decide what happens to a request. Alternatively, one request is harmed in one way. It is
//! given by its number ([`Proxy::harm`]) or by its target ([`Proxy::harm_first`]).

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

/// What may happen to a request, each with its probability. All other requests are forwarded
/// unharmed.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// The answer is 503, and the server never sees the request.
    pub refused: f64,
    /// The server executes the request, and the answer is 500.
    pub done_and_failed: f64,
    /// The connection is cut in the middle of the request. The server never has all of it.
    pub cut_request: f64,
    /// The server executes the request, and the connection is cut in the middle of the answer.
    pub cut_response: f64,
    /// The request waits before it is forwarded, for a time that is spread evenly up to
    /// `delay_max`.
    pub delay: f64,
    /// The longest delay.
    pub delay_max: Duration,
    /// For a conditional PUT: the server executes it, and the answer is 412, as if somebody else
    /// had won.
    pub done_and_412: f64,
    /// For a conditional PUT: the answer is 412, although the server has not seen it.
    pub false_412: f64,
    /// The answer is 403 to every request that would change the store.
    pub read_only: bool,
}

impl Faults {
    /// No faults.
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

    /// One request in ten fails in one way or another. Some others are delayed, and some commits
    /// are answered wrongly.
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

/// What can be done to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer is 503, and the server never sees the request.
    Refused,
    /// The answer is 500, and the server never sees the request.
    Failed,
    /// The server executes the request, and the answer is 500.
    DoneAndFailed,
    /// The connection is cut in the middle of the request. The server never has all of it.
    CutRequest,
    /// The connection is reset, and the server never sees the request.
    Reset,
    /// The server executes the request, and the connection is reset: no part of the answer arrives.
    Lost,
    /// The server executes the request, and the connection is cut in the middle of the answer.
    CutAnswer,
    /// The server executes the request, and the connection is cut in the middle of the answer's
    /// body.
    CutBody,
    /// The request is forwarded late.
    Slow,
    /// A conditional PUT: the server executes it, and the answer is 412, as if somebody else had
    /// won.
    DoneAnd412,
    /// A conditional PUT: the answer is 412, although the server has not seen it.
    False412,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::Refused,
        Fault::Failed,
        Fault::DoneAndFailed,
        Fault::CutRequest,
        Fault::Reset,
        Fault::Lost,
        Fault::CutAnswer,
        Fault::CutBody,
        Fault::Slow,
        Fault::DoneAnd412,
        Fault::False412,
    ];

    /// Whether this fault can be applied to a request.
    pub fn suits(self, request: &Seen) -> bool {
        request.is_conditional || !matches!(self, Fault::DoneAnd412 | Fault::False412)
    }
}

/// A request that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Method and target.
    pub line: String,
    /// Whether it is a PUT on condition that nothing is there.
    pub is_conditional: bool,
}

/// How often each thing has happened, by name.
pub type Tally = BTreeMap<&'static str, u64>;

/// A proxy on a port of 127.0.0.1. It stops when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    // Dropping it ends the connections.
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
    /// The request to harm, and the fault.
    chosen: Option<(Chosen, Fault)>,
    /// The requests that have arrived, if they are recorded.
    seen: Option<Vec<Seen>>,
}

/// One request of all that arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Chosen {
    /// The number of the request since the start of the proxy, counted from 1.
    Number(u64),
    /// The method and the target of the request.
    Line(String),
}

impl Chosen {
    fn is(&self, number: u64, request: &Seen) -> bool {
        match self {
            Chosen::Number(chosen) => *chosen == number,
            Chosen::Line(line) => *line == request.line,
        }
    }
}

/// The name under which the chosen request is tallied.
const CHOSEN: &str = "the chosen one";
/// How long a slow request waits.
const SLOW: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unharmed,
    Forbidden,
    Delayed(Duration),
    Harmed(Fault),
}

impl Proxy {
    /// Starts a proxy that forwards to `upstream` (`host:port`).
    pub fn start(upstream: &str, seed: u64, faults: Faults) -> Result<Proxy> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no port for the proxy")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let random = ChaCha8Rng::seed_from_u64(seed);
        let state = Mutex::new(State { faults, random, tally: Tally::new(), requests: 0, chosen: None, seen: None });
        let shared = Arc::new(Shared { upstream: upstream.to_owned(), state });
        let accepting = shared.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (client, _) = listener.accept().await?;
                let shared = accepting.clone();
                // The client notices by itself how a connection ends.
                tokio::spawn(async move { serve(client, &shared).await });
            }
            #[allow(unreachable_code, reason = "names the type of the errors")]
            io::Result::Ok(())
        });
        Ok(Proxy { address, shared, runtime: Some(runtime) })
    }

    /// The address for clients: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the faults, from the next request on.
    pub fn set(&self, faults: Faults) {
        self.shared.state().faults = faults;
    }

    /// Harms only the `nth` request from now on, counted from 1.
    pub fn harm(&self, nth: u64, fault: Fault) {
        let mut state = self.shared.state();
        state.chosen = Some((Chosen::Number(state.requests + nth), fault));
    }

    /// Harms only the first request from now on that has this method and target.
    pub fn harm_first(&self, line: String, fault: Fault) {
        self.shared.state().chosen = Some((Chosen::Line(line), fault));
    }

    /// Records the requests that arrive from now on.
    pub fn watch(&self) {
        self.shared.state().seen = Some(Vec::new());
    }

    /// The requests that have arrived since [`Proxy::watch`].
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone().unwrap_or_default()
    }

    /// What has happened so far.
    pub fn tally(&self) -> Tally {
        self.shared.state().tally.clone()
    }

    /// How many requests arrived, and how many of them were harmed (delays do not count).
    pub fn counts(&self) -> (u64, u64) {
        let state = self.shared.state();
        let harmed = state.tally.iter().filter(|(name, _)| **name != "delayed").map(|(_, count)| count).sum();
        (state.requests, harmed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The shutdown is not waited for, because this may be called within another runtime.
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
        let State { faults, random, tally, requests, chosen, seen } = &mut *state;
        *requests += 1;
        let is_conditional = request.is_put() && request.header("if-none-match").is_some();
        let this = Seen { line: request.line(), is_conditional };
        let fault = chosen.take_if(|(chosen, fault)| chosen.is(*requests, &this) && fault.suits(&this));
        if let Some(seen) = seen {
            seen.push(this);
        }
        if let Some((_, fault)) = fault {
            *tally.entry(CHOSEN).or_default() += 1;
            return Fate::Harmed(fault);
        }
        let mut draw = random.random_range(0.0..1.0);
        let mut falls = |share: f64| {
            draw -= share;
            draw < 0.0
        };
        let (name, fate) = if faults.read_only && !request.is_read() {
            ("403", Fate::Forbidden)
        } else if is_conditional && falls(faults.done_and_412) {
            ("done, 412", Fate::Harmed(Fault::DoneAnd412))
        } else if is_conditional && falls(faults.false_412) {
            ("not done, 412", Fate::Harmed(Fault::False412))
        } else if falls(faults.refused) {
            ("503", Fate::Harmed(Fault::Refused))
        } else if falls(faults.done_and_failed) {
            ("done, 500", Fate::Harmed(Fault::DoneAndFailed))
        } else if falls(faults.cut_request) {
            ("cut in the request", Fate::Harmed(Fault::CutRequest))
        } else if falls(faults.cut_response) {
            ("cut in the answer", Fate::Harmed(Fault::CutAnswer))
        } else if falls(faults.delay) {
            ("delayed", Fate::Delayed(faults.delay_max.mul_f64(random.random_range(0.0..1.0))))
        } else {
            return Fate::Unharmed;
        };
        *tally.entry(name).or_default() += 1;
        fate
    }
}

/// Serves one client connection, with one connection of its own to the server.
async fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    let mut server: Option<BufReader<TcpStream>> = None;
    while let Some(request) = read_request(&mut client).await? {
        match shared.decide(&request) {
            Fate::Forbidden => answer(&mut client, &request, FORBIDDEN).await?,
            Fate::Harmed(Fault::Refused) => answer(&mut client, &request, SLOW_DOWN).await?,
            Fate::Harmed(Fault::Failed) => answer(&mut client, &request, FAILED).await?,
            Fate::Harmed(Fault::False412) => answer(&mut client, &request, EXISTS).await?,
            Fate::Harmed(Fault::CutRequest) => {
                let mut server = connect(shared).await?;
                server.get_mut().write_all(&request.bytes[..request.bytes.len() / 2]).await?;
                return Ok(());
            }
            Fate::Harmed(Fault::Reset) => return reset(client),
            Fate::Unharmed => {
                let response = forward(&mut server, shared, &request).await?;
                client.get_mut().write_all(&response.bytes).await?;
            }
            Fate::Delayed(delay) => {
                tokio::time::sleep(delay).await;
                let response = forward(&mut server, shared, &request).await?;
                client.get_mut().write_all(&response.bytes).await?;
            }
            Fate::Harmed(done) => {
                if done == Fault::Slow {
                    tokio::time::sleep(SLOW).await;
                }
                let response = forward(&mut server, shared, &request).await?;
                let whole = response.bytes.len();
                match done {
                    Fault::DoneAndFailed => answer(&mut client, &request, FAILED).await?,
                    Fault::DoneAnd412 if response.status() / 100 == 2 => answer(&mut client, &request, EXISTS).await?,
                    Fault::Lost => return reset(client),
                    Fault::CutAnswer => return cut(client, &response.bytes[..whole / 2]).await,
                    Fault::CutBody if whole > response.head_bytes() => {
                        let half = response.head_bytes() + (whole - response.head_bytes()) / 2;
                        return cut(client, &response.bytes[..half]).await;
                    }
                    _ => client.get_mut().write_all(&response.bytes).await?,
                }
            }
        }
    }
    Ok(())
}

/// Sends these bytes and ends the connection.
async fn cut(mut client: BufReader<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    client.get_mut().write_all(bytes).await
}

/// Ends the connection with a reset.
fn reset(client: BufReader<TcpStream>) -> io::Result<()> {
    client.into_inner().set_zero_linger()
}

async fn connect(shared: &Shared) -> io::Result<BufReader<TcpStream>> {
    let server = TcpStream::connect(&shared.upstream).await?;
    server.set_nodelay(true)?;
    Ok(BufReader::new(server))
}

/// Returns the server's answer. It uses the open connection, or a new one if the server has closed
/// that.
async fn forward(server: &mut Option<BufReader<TcpStream>>, shared: &Shared, request: &Message) -> io::Result<Message> {
    if let Some(mut open) = server.take() {
        // If the server has closed an idle connection, it has not seen the request. Reading before
        // anything is written detects this.
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

/// A status, and S3's code for it.
type Status = (&'static str, &'static str);
const FORBIDDEN: Status = ("403 Forbidden", "AccessDenied");
const EXISTS: Status = ("412 Precondition Failed", "PreconditionFailed");
const FAILED: Status = ("500 Internal Server Error", "InternalError");
const SLOW_DOWN: Status = ("503 Service Unavailable", "SlowDown");

/// Sends an answer of the proxy's own, in the form of S3's.
async fn answer(client: &mut BufReader<TcpStream>, request: &Message, (status, code): Status) -> io::Result<()> {
    let body = match request.is_head() {
        true => String::new(),
        false => format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>by the proxy</Message></Error>"),
    };
    let text =
        format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.get_mut().write_all(text.as_bytes()).await
}
