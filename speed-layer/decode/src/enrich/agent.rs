//! Device, operating system and browser of a user agent. They come from woothee's data, under the
//! names that the views use.

use hashbrown::HashMap;
use woothee::parser::Parser;

/// What a user agent says about its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// `mobile`, `desktop`, `tablet`, `ctv`, `connected` or `bot`.
    pub device_type: Option<&'static str>,
    /// A family: `Windows`, `macOS`, `iOS`, `Android`, `Linux`, `ChromeOS`, ...
    pub os: Option<&'static str>,
    /// A name without a version. For `bot`, the name of the crawler.
    pub browser: Option<&'static str>,
}

impl Client {
    /// A client about which nothing is known.
    pub const UNKNOWN: Client = Client { device_type: None, os: None, browser: None };
}

/// A cache of clients by user agent. Parsing costs tens of microseconds, and most user agents
/// repeat.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    known: HashMap<Box<str>, Client>,
}

/// The number of distinct user agents cached. If one more comes, all are evicted at once.
const AGENTS_MAX: usize = 20_000;
/// The greatest length in bytes that is parsed. Longer user agents are cut.
const AGENT_BYTES_MAX: usize = 1024;

impl Agents {
    /// The client of a user agent.
    #[inline]
    pub fn client(&mut self, agent: &str) -> Client {
        if let Some(client) = self.known.get(agent) {
            return *client;
        }
        self.learn(agent)
    }

    #[cold]
    fn learn(&mut self, agent: &str) -> Client {
        let end = (0..=agent.len().min(AGENT_BYTES_MAX)).rev().find(|end| agent.is_char_boundary(*end)).unwrap_or(0);
        let client = parse(&agent[..end]);
        if agent.len() <= AGENT_BYTES_MAX {
            if self.known.len() >= AGENTS_MAX {
                self.known.clear();
            }
            self.known.insert(agent.into(), client);
        }
        client
    }
}

fn parse(agent: &str) -> Client {
    let television = is_television(agent);
    let Some(found) = Parser::new().parse(agent) else {
        return Client { device_type: television.then_some("ctv"), ..Client::UNKNOWN };
    };
    let device_type = match found.category {
        "crawler" => Some("bot"),
        _ if television => Some("ctv"),
        _ if is_tablet(agent, found.os) => Some("tablet"),
        "pc" => Some("desktop"),
        "smartphone" | "mobilephone" => Some("mobile"),
        "appliance" => Some("connected"),
        _ => None,
    };
    Client { device_type, os: os(found.os), browser: browser(found.name) }
}

/// Whether the user agent contains a word that only televisions and set-top boxes send.
fn is_television(agent: &str) -> bool {
    const WORDS: [&str; 14] = [
        "SmartTV",
        "Smart-TV",
        "SMART-TV",
        "AppleTV",
        "Apple TV",
        "Roku",
        "BRAVIA",
        "HbbTV",
        "CrKey",
        "Web0S",
        "NetCast",
        "GoogleTV",
        "Android TV",
        "AFTT ",
    ];
    WORDS.iter().any(|word| agent.contains(word)) || (agent.contains("Tizen") && agent.contains("TV"))
}

/// Whether it is an iPad, says `Tablet`, or is an Android that does not say `Mobile`, by Chrome's
/// convention.
fn is_tablet(agent: &str, os: &str) -> bool {
    os == "iPad" || (os == "Android" && !agent.contains("Mobile")) || agent.contains("Tablet")
}

/// The family of an operating system. woothee distinguishes versions of Windows and models of
/// Apple; the views do not.
fn os(name: &str) -> Option<&'static str> {
    const SAME: [&str; 12] = [
        "Android",
        "Linux",
        "ChromeOS",
        "BSD",
        "BlackBerry",
        "BlackBerry 10",
        "Firefox OS",
        "SymbianOS",
        "Nintendo 3DS",
        "Nintendo Switch",
        "Xbox One",
        "PlayStation 4",
    ];
    match name {
        "iPhone" | "iPad" | "iPod" | "iOS" => Some("iOS"),
        "Mac OSX" | "Mac OS Classic" => Some("macOS"),
        _ if name.starts_with("Windows Phone") => Some("Windows Phone"),
        _ if name.starts_with("Windows") => Some("Windows"),
        _ => SAME.into_iter().find(|same| *same == name),
    }
}

fn browser(name: &str) -> Option<&'static str> {
    // The names in the data set are static, but woothee gives them the lifetime of the user agent's
    // text.
    woothee::dataset::DATASET.values().map(|known| known.name).find(|known| *known == name && !known.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients() {
        let check = |agent: &str, device_type: Option<&str>, os: Option<&str>, browser: Option<&str>| {
            let client = Agents::default().client(agent);
            assert_eq!((client.device_type, client.os, client.browser), (device_type, os, browser), "{agent}");
        };
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 \
            Safari/537.36",
            Some("desktop"),
            Some("Windows"),
            Some("Chrome"),
        );
        check(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
            Version/17.1 Mobile/15E148 Safari/604.1",
            Some("mobile"),
            Some("iOS"),
            Some("Safari"),
        );
        check(
            "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 \
            Mobile/15E148 Safari/604.1",
            Some("tablet"),
            Some("iOS"),
            Some("Safari"),
        );
        check(
            "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 \
            Safari/537.36",
            Some("tablet"),
            Some("Android"),
            Some("Chrome"),
        );
        check(
            "Mozilla/5.0 (Linux; Android 13; Pixel 7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile \
            Safari/537.36",
            Some("mobile"),
            Some("Android"),
            Some("Chrome"),
        );
        check(
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 \
            Safari/605.1.15",
            Some("desktop"),
            Some("macOS"),
            Some("Safari"),
        );
        check(
            "Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/4.0 \
            Chrome/76.0.3809.146 TV Safari/537.36",
            Some("ctv"),
            Some("Linux"),
            Some("SamsungBrowser"),
        );
        check(
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            Some("bot"),
            None,
            Some("Googlebot"),
        );
        check("", None, None, None);
        check("-", None, None, None);
        check("nonsense", None, None, None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut agents = Agents::default();
        for number in 0..AGENTS_MAX + 5 {
            agents.client(&number.to_string());
        }
        assert!(agents.known.len() <= AGENTS_MAX);
        agents.client(&"é".repeat(10_000));
        assert!(agents.known.keys().all(|agent| agent.len() <= AGENT_BYTES_MAX));
    }
}
