//! Who comes in to `adlake serve`: sessions, passwords, tokens of an issuer; and the audit log.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use adlake_tests::adlake::{Adlake, program};
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::serve::{DEADLINE, Server, config, ingest};
use crate::serve_tls::{certificate, client, section};

const PASSWORD: &str = "correct horse battery";

/// Adds a user, whose password is given on stdin.
pub fn add_user(folder: &Path, name: &str, more: &[&str], password: &str) -> Result<(bool, String)> {
    use std::io::Write;
    let mut process = Command::new(program()?)
        .args([&["users", "create", name, "--config", "adlake.toml"], more].concat())
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    process.stdin.take().context("no stdin")?.write_all(format!("{password}\n").as_bytes())?;
    let output = process.wait_with_output()?;
    Ok((output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
}

fn request(server: &Server, method: Method, path: &str, headers: &[(&str, &str)]) -> RequestBuilder {
    let request = server.client.request(method, server.url(path));
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

async fn sign_in(server: &Server, body: &Value, headers: &[(&str, &str)]) -> Result<Response> {
    let request = request(server, Method::POST, "/v1/session", headers).header("content-type", "application/json");
    Ok(request.body(body.to_string()).send().await?)
}

/// The cookie that a response sets, and what the browser is told about it.
fn cookie(response: &Response) -> Result<(String, String)> {
    let text = response.headers().get("set-cookie").context("no cookie")?.to_str()?;
    let (cookie, rest) = text.split_once(';').context("no attributes")?;
    Ok((cookie.to_owned(), rest.to_owned()))
}

async fn whoami(server: &Server, cookie: &str) -> Result<(u16, Value)> {
    Server::json(request(server, Method::GET, "/v1/whoami", &[("cookie", cookie)]).send().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lasts_until_its_owner_or_its_time_ends_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    certificate(folder.path(), "server")?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let more = format!(
        "keys_file = \"{}\"\nusers_file = \"{}\"\naudit_file = \"{}\"\n[serve.login]\nattempts_per_minute = 5\n{}",
        path("keys.toml"),
        path("users.toml"),
        path("audit.jsonl"),
        section(folder.path(), "server")
    );
    let config = config(folder.path(), &more);
    let adlake = Adlake::in_dir(folder.path()).config(&config);
    ingest(&adlake, folder.path(), "a", 1, 500);
    let key: Value =
        serde_json::from_str(&adlake.ok(["keys", "create", "boss", "--role", "admin", "--format", "json"]))?;
    let key = key["key"].as_str().context("no key")?.to_owned();
    let added = add_user(folder.path(), "ana", &["--role", "analyst"], PASSWORD)?;
    ensure!(added.0 && !fs::read_to_string(path("users.toml"))?.contains(PASSWORD), "{}", added.1);
    for (name, password) in [("ana", PASSWORD), ("bob", "short")] {
        let refused = add_user(folder.path(), name, &["--role", "analyst"], password)?;
        ensure!(!refused.0, "{name}: {}", refused.1);
    }
    let server = Server::start_for(adlake, "https", client(folder.path(), "server")?).await?;
    let methods = Server::json(server.get("/v1/session", None).await?).await?.1;
    ensure!(methods == json!({"is_needed": true, "methods": ["password", "key"]}), "{methods}");

    // With a key, and with a password. The cookie is only for this host, for HTTPS, and not for
    // scripts.
    let mut cookies = Vec::new();
    for (body, name, role) in
        [(json!({"key": key}), "boss", "admin"), (json!({"name": "ana", "password": PASSWORD}), "user:ana", "analyst")]
    {
        let response = sign_in(&server, &body, &[]).await?;
        ensure!(response.status().is_success(), "{name}: {}", response.status());
        let (text, attributes) = cookie(&response)?;
        ensure!(text.starts_with("__Host-adlake=") && !text.contains(&key), "{text}");
        ensure!(attributes == " Path=/; HttpOnly; SameSite=Strict; Max-Age=43200; Secure", "{attributes}");
        let (status, who) = whoami(&server, &text).await?;
        ensure!(status == 200 && who["name"] == name && who["role"] == role, "{who}");
        ensure!(who["has_session"] == true, "{who}");
        cookies.push(text);
    }
    let [boss, ana] = [&cookies[0], &cookies[1]];

    // A session may ask, from the server's own page only. A key may from anywhere.
    let origin = server.url("");
    let ask = async |headers: &[(&str, &str)]| -> Result<u16> {
        Ok(server.post(&json!({"metrics": ["clicks"]}), None, headers).await?.status().as_u16())
    };
    ensure!(ask(&[("cookie", ana.as_str()), ("origin", &origin)]).await? == 200);
    for headers in [&[("origin", "https://evil.example.com")][..], &[("sec-fetch-site", "cross-site")], &[]] {
        let with_cookie = [&[("cookie", ana.as_str())], headers].concat();
        ensure!(ask(&with_cookie).await? == 403, "{headers:?}");
    }
    let foreign = sign_in(&server, &json!({"key": key}), &[("origin", "https://evil.example.com")]).await?;
    ensure!(foreign.status() == 403, "{}", foreign.status());
    let form =
        request(&server, Method::POST, "/v1/session", &[("content-type", "text/plain")]).body("{}").send().await?;
    ensure!(form.status() == 415, "{}", form.status());

    // Signed out is out, for this session alone.
    let second = cookie(&sign_in(&server, &json!({"key": key}), &[]).await?)?.0;
    let out = request(&server, Method::DELETE, "/v1/session", &[("cookie", boss), ("origin", &origin)]).send().await?;
    ensure!(out.status() == 204 && cookie(&out)?.1.contains("Max-Age=0"), "{}", out.status());
    ensure!(whoami(&server, boss).await?.0 == 401 && whoami(&server, &second).await?.0 == 200);

    // A key that is removed ends its sessions, a user who is changed keeps those of the same
    // password.
    fs::write(path("keys.toml"), "")?;
    let users = fs::read_to_string(path("users.toml"))?.replace("\"analyst\"", "\"admin\"");
    fs::write(path("users.toml"), users)?;
    wait::until_async(DEADLINE, "the removed key's session to end", async || {
        Ok(whoami(&server, &second).await?.0 == 401 && whoami(&server, ana).await?.1["role"] == "admin")
    })
    .await?;
    ensure!(server.get("/v1/whoami", Some(&key)).await?.status() == 401);

    // Wrong names and wrong passwords are told alike, and not for ever.
    let wrong = [
        json!({"name": "ana", "password": "wrong"}),
        json!({"name": "nobody", "password": PASSWORD}),
        json!({"key": key}),
    ];
    let mut texts = Vec::new();
    for body in &wrong {
        let response = sign_in(&server, body, &[]).await?;
        ensure!(response.status() == 401, "{body}: {}", response.status());
        texts.push(Server::problem(response).await?);
    }
    ensure!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    let mut last = 401;
    for _ in 0..5 {
        let response = sign_in(&server, &wrong[0], &[]).await?;
        last = response.status().as_u16();
        if last == 429 {
            ensure!(response.headers().contains_key("retry-after"));
            break;
        }
    }
    ensure!(last == 429, "attempts are not limited: {last}");

    // All of it is in the audit log, and no secret is.
    let audit = wait::value_async(DEADLINE, "the lines of the audit log", async || {
        let text = fs::read_to_string(path("audit.jsonl"))?;
        Ok((text.matches("\"sign_in\"").count() >= 6).then_some(text))
    })
    .await?;
    let lines: Vec<Value> = audit.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let has =
        |parts: &[(&str, Value)]| lines.iter().any(|line| parts.iter().all(|(name, value)| line[*name] == *value));
    ensure!(has(&[("event", json!("sign_in")), ("who", json!("user:ana")), ("status", json!(200))]), "{audit}");
    ensure!(has(&[("event", json!("sign_in")), ("who", json!("user:nobody")), ("status", json!(401))]), "{audit}");
    ensure!(has(&[("event", json!("sign_out")), ("who", json!("boss"))]), "{audit}");
    let question = json!({"metrics": ["clicks"]}).to_string();
    let asked = [("who", json!("user:ana")), ("path", json!("/v1/query")), ("question", json!(question))];
    ensure!(has(&[&asked[..], &[("status", json!(200)), ("from", json!("127.0.0.1"))]].concat()), "{audit}");
    for secret in [key.as_str(), PASSWORD, ana.as_str()] {
        ensure!(!audit.contains(secret) && !server.process.logs().contains(secret), "a secret is in the log");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_keys_answers_to_names_of_its_own_machine_only() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let more = "allowed_hosts = [\"lake.internal\"]\n";
    let adlake = Adlake::in_dir(folder.path()).config(&config(folder.path(), more));
    ingest(&adlake, folder.path(), "a", 1, 200);
    let create = ["keys", "create", "boss", "--role", "admin", "--format", "json"];
    let server = Server::start(adlake).await?;
    // What a browser sends after the name of another site was made to lead here.
    let paths = ["/", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/campaigns", "/v1/live", "/nothing"];
    for host in ["evil.example.com", "evil.example.com:80", "127.0.0.1.evil.example.com", "other.internal", "10.0.0.1"]
    {
        for path in paths {
            let response = request(&server, Method::GET, path, &[("host", host)]).send().await?;
            let (status, problem) = Server::problem(response).await?;
            ensure!(status == 403 && problem["code"] == "foreign_host", "{host} {path}: {status} {problem}");
        }
        let response = server.post(&json!({"metrics": ["clicks"]}), None, &[("host", host)]).await?;
        ensure!(response.status() == 403, "{host}: {}", response.status());
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:80", "lake.internal", "Lake.internal:8080"] {
        let response = request(&server, Method::GET, "/v1/campaigns", &[("host", host)]).send().await?;
        ensure!(response.status() == 200, "{host}: {}", response.status());
    }
    // The first line of a request may name a host as well, and a request may name none.
    for head in ["GET http://evil.example.com/v1/whoami HTTP/1.1\r\nhost: localhost", "GET /v1/whoami HTTP/1.0"] {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await?;
        stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        ensure!(text.contains(" 403 ") && text.contains("foreign_host"), "{head}: {text}");
    }
    drop(server);

    // With keys, the name does not matter: the page of another site has no key.
    let more = format!("keys_file = \"{}\"\n", folder.path().join("keys.toml").display());
    let home = folder.path().join("with-keys");
    fs::create_dir(&home)?;
    let adlake = Adlake::in_dir(&home).config(&config(folder.path(), &more));
    let key: Value = serde_json::from_str(&adlake.ok(create))?;
    let server = Server::start(adlake).await?;
    let headers = [("host", "lake.example.com")];
    let asked = request(&server, Method::GET, "/v1/campaigns", &headers);
    ensure!(asked.bearer_auth(key["key"].as_str().context("no key")?).send().await?.status() == 200);
    ensure!(request(&server, Method::GET, "/v1/campaigns", &headers).send().await?.status() == 401);
    Ok(())
}

/// An issuer of tokens whose keys are at an address of this machine.
struct Issuer {
    key: EcdsaKeyPair,
    url: String,
}

impl Issuer {
    async fn start() -> Result<Issuer> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let point = key.public_key().as_ref();
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig", "alg": "ES256",
                         "x": BASE64.encode(&point[1..33]), "y": BASE64.encode(&point[33..])});
        let body = json!({"keys": [jwk]}).to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/keys", listener.local_addr()?);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Ok(Issuer { key, url })
    }

    fn token(&self, header: &Value, change: impl Fn(&mut Value)) -> Result<String> {
        let now = chrono::Utc::now().timestamp();
        let mut claims = json!({"iss": "https://id.example.com", "aud": "adlake", "sub": "eve", "exp": now + 300,
                                "groups": ["clients"], "adlake_campaigns": ["none"]});
        change(&mut claims);
        let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes())?;
        Ok(format!("{message}.{}", BASE64.encode(signature.as_ref())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_issuer_come_in_with_the_rights_of_their_claims() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::start().await?;
    let more = format!(
        "[serve.oidc]\nissuer = \"https://id.example.com\"\naudience = \"adlake\"\njwks = \"{}\"\nrole_claim = \
         \"groups\"\n[serve.oidc.roles]\nstaff = \"analyst\"\nclients = \"advertiser\"\n",
        issuer.url
    );
    let adlake = Adlake::in_dir(folder.path()).config(&config(folder.path(), &more));
    ingest(&adlake, folder.path(), "a", 1, 1_000);
    let rows = adlake.query_json("SELECT campaign_id, impressions FROM campaign_kpis ORDER BY impressions DESC");
    let own = rows[0]["campaign_id"].as_str().context("no campaign")?.to_owned();
    let server = Server::start(adlake).await?;
    // An issuer is a way in: without a token nobody comes in.
    ensure!(server.get("/v1/whoami", None).await?.status() == 401);
    let header = json!({"alg": "ES256", "kid": "k1"});
    let status =
        async |token: String| -> Result<u16> { Ok(server.get("/v1/whoami", Some(&token)).await?.status().as_u16()) };
    let good = issuer.token(&header, |claims| claims["adlake_campaigns"] = json!([own]))?;
    wait::until_async(DEADLINE, "the issuer's keys", async || Ok(status(good.clone()).await? == 200)).await?;
    let grouped = json!({"metrics": ["impressions"], "dimensions": ["campaign_id"], "totals": true});
    let answer: Value = serde_json::from_str(&server.post(&grouped, Some(&good), &[]).await?.text().await?)?;
    ensure!(answer["rows"] == json!([[own, rows[0]["impressions"]]]), "{answer}");
    let who = Server::json(server.get("/v1/whoami", Some(&good)).await?).await?.1;
    ensure!(who["name"] == "oidc:eve" && who["role"] == "advertiser" && who["scope"]["all"] == false, "{who}");
    ensure!(status(issuer.token(&header, |claims| claims["groups"] = json!(["staff"]))?).await? == 200);
    let now = chrono::Utc::now().timestamp();
    for (what, token) in [
        ("expired", issuer.token(&header, |claims| claims["exp"] = json!(now - 120))?),
        ("another audience", issuer.token(&header, |claims| claims["aud"] = json!("other"))?),
        ("another issuer", issuer.token(&header, |claims| claims["iss"] = json!("https://evil.example.com"))?),
        ("alg none", issuer.token(&json!({"alg": "none"}), |_| ())?),
        ("an unknown key", issuer.token(&json!({"alg": "ES256", "kid": "k2"}), |_| ())?),
        ("another signature", Issuer::start().await?.token(&header, |_| ())?),
    ] {
        ensure!(status(token).await? == 401, "{what}");
    }
    ensure!(status(issuer.token(&header, |claims| claims["groups"] = json!(["nobody"]))?).await? == 403);
    ensure!(status(issuer.token(&header, |claims| claims["adlake_campaigns"] = json!([]))?).await? == 403);
    Ok(())
}
