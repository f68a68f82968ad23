use std::collections::BTreeMap;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256};
use serde_json::json;

use super::*;
use crate::access::Scope;

const NOW: f64 = 1_800_000_000.0;

/// An issuer with a key of each kind.
struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
}

impl Issuer {
    fn new() -> Issuer {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Issuer { rsa, ec }
    }

    /// Both keys, under the ids `r` and `e`.
    fn jwks(&self) -> Value {
        // PKCS #1 in DER: a sequence of two integers, here of 257 and 3 bytes.
        let der = self.rsa.public_key().as_ref();
        assert_eq!((der.len(), &der[..9]), (270, &[0x30, 0x82, 1, 10, 2, 0x82, 1, 1, 0][..]));
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "oct", "kid": "o", "k": "AAAA"},
            {"kty": "RSA", "kid": "other", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": BASE64.encode(&der[9..265]), "e": "AQAB"},
            {"kty": "EC", "kid": "e", "crv": "P-256", "x": BASE64.encode(&point[1..33]),
             "y": BASE64.encode(&point[33..])},
        ]})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let random = SystemRandom::new();
        let signature = match header["alg"].as_str() {
            Some("RS256") => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Some("none") => Vec::new(),
            _ => self.ec.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{message}.{}", BASE64.encode(signature))
    }
}

fn settings(jwks: &str) -> OidcSettings {
    OidcSettings {
        issuer: "https://id.example.com".into(),
        audience: "adlake".into(),
        jwks: jwks.into(),
        role_claim: "realm.groups".into(),
        roles: BTreeMap::from([
            ("lake-admins".into(), Role::Admin),
            ("analysts".into(), Role::Analyst),
            ("clients".into(), Role::Advertiser),
        ]),
        ..OidcSettings::default()
    }
}

fn claims() -> Value {
    json!({"iss": "https://id.example.com", "aud": ["other", "adlake"], "exp": NOW + 300.0, "sub": "ana",
           "realm": {"groups": ["staff", "analysts"]}})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// A checker that has read the keys of an issuer from a file.
async fn checker(issuer: &Issuer) -> (Tokens, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, issuer.jwks().to_string()).unwrap();
    let tokens = Tokens::open(&settings(file.to_str().unwrap())).unwrap().unwrap();
    tokens.refresh(Duration::ZERO).await;
    (tokens, folder)
}

#[tokio::test]
async fn a_token_of_the_issuer_gives_what_its_claims_say() {
    let issuer = Issuer::new();
    let (tokens, _folder) = checker(&issuer).await;
    let rs = json!({"alg": "RS256", "kid": "r", "typ": "JWT"});
    let es = json!({"alg": "ES256", "kid": "e"});
    for header in [&rs, &es, &json!({"alg": "ES256"}), &json!({"alg": "RS256"})] {
        let principal = tokens.principal(&issuer.sign(header, &claims()), NOW).await.unwrap();
        let expected = Principal { name: "oidc:ana".into(), role: Role::Analyst, scope: Scope::All };
        assert_eq!(principal, expected, "{header}");
    }
    // Of several roles the one with the most rights; a text instead of a list; the scope.
    let claims = with("realm", json!({"groups": ["clients", "lake-admins", "analysts"]}));
    assert_eq!(tokens.principal(&issuer.sign(&es, &claims), NOW).await.unwrap().role, Role::Admin);
    let mut claims = with("realm", json!({"groups": "clients"}));
    claims["adlake_advertisers"] = json!(["a1", "a2"]);
    claims["adlake_campaigns"] = json!("c1");
    let scope = tokens.principal(&issuer.sign(&es, &claims), NOW).await.unwrap().scope;
    let expected = Scope::Some { advertisers: vec!["a1".into(), "a2".into()], campaigns: vec!["c1".into()] };
    assert_eq!(scope, expected);
}

#[tokio::test]
async fn tokens_that_are_not_for_this_server_are_refused() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let (tokens, _folder) = checker(&issuer).await;
    let (rs, es) = (json!({"alg": "RS256", "kid": "r"}), json!({"alg": "ES256", "kid": "e"}));
    let good = issuer.sign(&es, &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let changed = issuer.sign(&es, &with("sub", json!("bob")));
    let (changed, _) = changed.rsplit_once('.').unwrap();
    // The public key as the secret of an HMAC: the oldest trick.
    let hmac = {
        use hmac::{KeyInit, Mac};
        let header = BASE64.encode(json!({"alg": "HS256", "kid": "r"}).to_string());
        let message = format!("{header}.{}", BASE64.encode(claims().to_string()));
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(issuer.rsa.public_key().as_ref()).unwrap();
        mac.update(message.as_bytes());
        format!("{message}.{}", BASE64.encode(mac.finalize().into_bytes()))
    };
    let cases = [
        ("empty", String::new()),
        ("no token", "a.b.c".into()),
        ("two parts", message.into()),
        ("no signature", format!("{message}.")),
        ("the signature of another token", format!("{changed}.{signature}")),
        ("another key", stranger.sign(&es, &claims())),
        ("another RSA key", stranger.sign(&rs, &claims())),
        ("alg none", issuer.sign(&json!({"alg": "none", "kid": "r"}), &claims())),
        ("alg None", issuer.sign(&json!({"alg": "None"}), &claims())),
        ("no alg", issuer.sign(&json!({"kid": "e"}), &claims())),
        ("HMAC", hmac),
        ("RS256 with the key for ES256", issuer.sign(&json!({"alg": "RS256", "kid": "e"}), &claims())),
        ("a key for encryption", issuer.sign(&json!({"alg": "RS256", "kid": "other"}), &claims())),
        ("an unknown key", issuer.sign(&json!({"alg": "ES256", "kid": "x"}), &claims())),
        ("crit", issuer.sign(&json!({"alg": "ES256", "kid": "e", "crit": ["b64"]}), &claims())),
        ("another issuer", issuer.sign(&es, &with("iss", json!("https://id.example.com/")))),
        ("no issuer", issuer.sign(&es, &with("iss", Value::Null))),
        ("another audience", issuer.sign(&es, &with("aud", json!("adlake2")))),
        ("no audience", issuer.sign(&es, &with("aud", Value::Null))),
        ("expired", issuer.sign(&es, &with("exp", json!(NOW - 61.0)))),
        ("no expiry", issuer.sign(&es, &with("exp", Value::Null))),
        ("an expiry that is a text", issuer.sign(&es, &with("exp", json!("9999999999")))),
        ("not yet", issuer.sign(&es, &with("nbf", json!(NOW + 61.0)))),
        ("a begin that is a text", issuer.sign(&es, &with("nbf", json!("0")))),
        ("too long", issuer.sign(&es, &with("more", json!("x".repeat(20_000))))),
    ];
    for (what, token) in cases {
        let refused = tokens.principal(&token, NOW).await;
        assert!(matches!(refused, Err(Refused::Invalid(_))), "{what}: {refused:?}");
    }
    // Every changed character.
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'Q' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(tokens.principal(&changed, NOW).await.is_err(), "{at}");
    }
    // Valid, and without any right.
    let mut no_scope = with("realm", json!({"groups": ["clients"]}));
    no_scope["adlake_campaigns"] = json!([]);
    for claims in
        [with("realm", json!({"groups": ["admin"]})), with("realm", Value::Null), with("sub", json!(7)), no_scope]
    {
        let refused = tokens.principal(&issuer.sign(&es, &claims), NOW).await;
        assert!(matches!(refused, Err(Refused::NoRight(_))), "{claims}: {refused:?}");
    }
}

#[tokio::test]
async fn an_unknown_key_makes_the_server_ask_but_not_at_once_again() {
    let (before, after) = (Issuer::new(), Issuer::new());
    let (tokens, folder) = checker(&before).await;
    let es = json!({"alg": "ES256", "kid": "new"});
    let token = after.sign(&es, &claims());
    let mut jwks = after.jwks();
    jwks["keys"][3]["kid"] = json!("new");
    std::fs::write(folder.path().join("jwks.json"), jwks.to_string()).unwrap();
    // The keys were read a moment ago.
    assert!(tokens.principal(&token, NOW).await.is_err());
    *tokens.asked.lock().await = Instant::now().checked_sub(REFRESH_MIN);
    assert!(tokens.principal(&token, NOW).await.is_ok());
    // A file that cannot be read leaves the keys.
    std::fs::write(folder.path().join("jwks.json"), "no keys").unwrap();
    *tokens.asked.lock().await = None;
    let unknown = after.sign(&json!({"alg": "ES256", "kid": "newer"}), &claims());
    assert!(tokens.principal(&unknown, NOW).await.is_err());
    assert!(tokens.principal(&token, NOW).await.is_ok());
}
