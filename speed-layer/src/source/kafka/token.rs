//! Tokens for SASL OAUTHBEARER, printed by a program that the user configures. Such a program
//! exists for every identity provider.
//!
//! The program prints a token, or a JSON object with `token` or `access_token`, and optionally
//! `expires_in` (seconds), `expires_at_ms` or `lifetime_ms` (milliseconds since the epoch) and
//! `principal`. Values that it leaves out are taken from the token if that is a JWT. The program's
//! standard output is never logged.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use adlake_domain::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use serde_json::{Map, Value};

/// How long a token without an expiry time is used before another is requested.
const LIFETIME_DEFAULT_MS: i64 = 15 * 60 * 1_000;
const POLL: Duration = Duration::from_millis(5);
/// How many characters of a failed program's standard error are shown.
const STDERR_CHARS: usize = 200;
/// The most bytes of output that are read. A token is sent in one frame, and this is far more than
/// a broker takes.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// Runs the program and reads its token. The error says which program failed, and how.
pub fn from_command(command: &[Secret], timeout: Duration, now_ms: i64) -> Result<OAuthToken, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(
            "sasl.mechanisms is OAUTHBEARER: set kafka.oauth_token_command to a program that prints a token".into()
        );
    };
    // Errors name the program, but not its arguments: they may hold a password. The program's text
    // may be a whole command line by mistake, so only its first word is shown.
    let program = program.expose();
    let name = program.split(|c: char| c.is_whitespace() || c == '=').next().unwrap_or_default();
    let failed = |what: String| format!("kafka.oauth_token_command: {name} {what}");
    let output = output_of(program, arguments, timeout).map_err(failed)?;
    token(&output, now_ms).map_err(|what| failed(what.to_owned()))
}

fn output_of(program: &str, arguments: &[Secret], timeout: Duration) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments.iter().map(Secret::expose))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    let started = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| format!("cannot be waited for: {error}"))? {
            Some(status) => break status,
            None if started.elapsed() >= timeout => {
                // Both calls fail only when the program has already ended.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("did not end within {timeout:?}"));
            }
            None => thread::sleep(POLL),
        }
    };
    // A child process of the program may hold the pipes open until the time is up. The output is
    // lost then.
    let text = |reader: thread::JoinHandle<Vec<u8>>| {
        while !reader.is_finished() && started.elapsed() < timeout {
            thread::sleep(POLL);
        }
        if reader.is_finished() { reader.join().unwrap_or_default() } else { Vec::new() }
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    if !status.success() {
        let said: String = String::from_utf8_lossy(&stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        return Err(format!("ended with {status}: {}", said.chars().take(STDERR_CHARS).collect::<String>()));
    }
    String::from_utf8(stdout).map_err(|_| "printed something that is not text".to_owned())
}

fn read(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // If reading fails, the token is incomplete, and that is reported when it is parsed.
            let _ = pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
        }
        bytes
    })
}

fn token(output: &str, now_ms: i64) -> Result<OAuthToken, &'static str> {
    let said: Map<String, Value> = match serde_json::from_str(output) {
        Ok(said) => said,
        Err(_) => Map::from_iter([("token".to_owned(), Value::from(output.trim()))]),
    };
    let token = said.get("token").or_else(|| said.get("access_token")).and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() || token.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("printed neither a token nor a JSON object with one");
    }
    let claims = claims(token);
    let number = |name: &str| said.get(name).and_then(Value::as_i64);
    let lifetime_ms = (number("expires_at_ms").or_else(|| number("lifetime_ms")))
        .or_else(|| number("expires_in").map(|seconds| now_ms.saturating_add(seconds.saturating_mul(1_000))))
        .or_else(|| claims.get("exp").and_then(Value::as_f64).map(|seconds| (seconds * 1_000.0) as i64))
        .unwrap_or(now_ms + LIFETIME_DEFAULT_MS);
    if lifetime_ms <= now_ms {
        return Err("printed a token that has expired");
    }
    let principal = said.get("principal").or_else(|| claims.get("sub")).and_then(Value::as_str).unwrap_or("adlake");
    Ok(OAuthToken { token: token.to_owned(), principal_name: principal.to_owned(), lifetime_ms })
}

/// The claims of a JWT; none of other tokens. The broker checks the signature.
fn claims(token: &str) -> Map<String, Value> {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn jwt(claims: &str) -> String {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn what_is_printed_is_a_token() {
        let check = |output: &str, expected: (&str, &str, i64)| {
            let token = token(output, NOW).map_err(|error| format!("{output}: {error}")).unwrap();
            assert_eq!((token.token.as_str(), token.principal_name.as_str(), token.lifetime_ms), expected, "{output}");
        };
        check("abc\n", ("abc", "adlake", NOW + LIFETIME_DEFAULT_MS));
        check(r#"{"access_token": "abc", "expires_in": 60, "token_type": "Bearer"}"#, ("abc", "adlake", NOW + 60_000));
        check(r#"{"token": "abc", "lifetime_ms": 1000001, "principal": "me"}"#, ("abc", "me", NOW + 1));
        let jwt = jwt(r#"{"sub": "somebody", "exp": 2000.5}"#);
        check(&jwt, (&jwt, "somebody", 2_000_500));
    }

    #[test]
    fn anything_else_is_refused() {
        for output in
            ["", " \n", "{}", "{\"token\": 7}", "two words", "a\u{0}b", "{\"token\": \"x\", \"expires_in\": 0}"]
        {
            assert!(token(output, NOW).is_err(), "{output}");
        }
        assert!(token(&jwt(r#"{"exp": 1}"#), NOW).is_err());
    }

    #[test]
    fn programs_that_fail_are_named_and_their_output_is_not() {
        let run = |script: &str, timeout_ms: u64| {
            let command = ["sh", "-c", script].map(Secret::from);
            from_command(&command, Duration::from_millis(timeout_ms), NOW).map(|token| token.token)
        };
        assert_eq!(run("echo abc", 10_000), Ok("abc".to_owned()));
        let failed = run("echo hush; echo no such account >&2; exit 3", 10_000).unwrap_err();
        assert!(failed.contains("sh") && failed.contains('3') && failed.contains("no such account"), "{failed}");
        assert!(!failed.contains("hush"), "{failed}");
        let slow = run("exec sleep 60", 50).unwrap_err();
        assert!(slow.contains("did not end within 50ms"), "{slow}");
        let missing = from_command(&["/no/such/program".into()], POLL, NOW).err().unwrap();
        assert!(missing.contains("/no/such/program"), "{missing}");
        for line in ["/no/such/program --password hush", "/no/such/program\thush", "PASSWORD=hush /no/such/program"] {
            let missing = from_command(&[line.into()], POLL, NOW).err().unwrap();
            assert!(missing.contains("cannot be run") && !missing.contains("hush"), "{missing}");
        }
        assert!(from_command(&[], POLL, NOW).err().unwrap().contains("set kafka.oauth_token_command"));
    }
}
