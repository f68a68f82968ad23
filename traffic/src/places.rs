//! The countries and the user agents that the generator draws from.

/// A country and the region and city of most of its users.
#[derive(Debug)]
pub struct Place {
    /// ISO 3166 alpha-2.
    pub country: &'static str,
    /// ISO 3166 alpha-3, as OpenRTB sends it.
    pub country3: &'static str,
    pub region: &'static str,
    pub city: &'static str,
    pub weight: f64,
}

const fn place(
    country: &'static str,
    country3: &'static str,
    region: &'static str,
    city: &'static str,
    weight: f64,
) -> Place {
    Place { country, country3, region, city, weight }
}

/// Weighted by traffic. No region or city has a character that JSON escapes.
pub const PLACES: [Place; 20] = [
    place("US", "USA", "CA", "Los Angeles", 14.0),
    place("US", "USA", "NY", "New York", 11.0),
    place("US", "USA", "TX", "Houston", 9.0),
    place("GB", "GBR", "ENG", "London", 9.0),
    place("DE", "DEU", "BY", "München", 6.0),
    place("DE", "DEU", "BE", "Berlin", 5.0),
    place("FR", "FRA", "IDF", "Paris", 7.0),
    place("IN", "IND", "MH", "Mumbai", 7.0),
    place("IN", "IND", "KA", "Bengaluru", 5.0),
    place("BR", "BRA", "SP", "São Paulo", 6.0),
    place("JP", "JPN", "13", "東京", 5.0),
    place("CA", "CAN", "ON", "Toronto", 4.0),
    place("AU", "AUS", "NSW", "Sydney", 3.0),
    place("ES", "ESP", "MD", "Madrid", 3.0),
    place("IT", "ITA", "25", "Milano", 3.0),
    place("MX", "MEX", "CMX", "Ciudad de México", 3.0),
    place("NL", "NLD", "NH", "Amsterdam", 2.0),
    place("SE", "SWE", "AB", "Stockholm", 1.0),
    place("PL", "POL", "MZ", "Łódź", 1.0),
    place("ZA", "ZAF", "GT", "Johannesburg", 1.0),
];

/// A browser on a device.
#[derive(Debug)]
pub struct Agent {
    pub user_agent: &'static str,
    /// The word that impressions send.
    pub device: &'static str,
    /// OpenRTB's `devicetype`.
    pub device_type: i64,
    pub os: &'static str,
    pub weight: f64,
}

const fn agent(
    device: &'static str,
    device_type: i64,
    os: &'static str,
    weight: f64,
    user_agent: &'static str,
) -> Agent {
    Agent { user_agent, device, device_type, os, weight }
}

/// Weighted by traffic.
pub const AGENTS: [Agent; 10] = [
    agent(
        "mobile",
        4,
        "Android",
        30.0,
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile \
         Safari/537.36",
    ),
    agent(
        "mobile",
        4,
        "iOS",
        22.0,
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 \
         Mobile/15E148 Safari/604.1",
    ),
    agent(
        "desktop",
        2,
        "Windows",
        20.0,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 \
         Safari/537.36",
    ),
    agent(
        "desktop",
        2,
        "Windows",
        7.0,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 \
         Safari/537.36 Edg/131.0.0.0",
    ),
    agent(
        "desktop",
        2,
        "macOS",
        6.0,
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 \
         Safari/605.1.15",
    ),
    agent(
        "desktop",
        2,
        "Windows",
        4.0,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0",
    ),
    agent("desktop", 2, "Linux", 1.0, "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"),
    agent(
        "tablet",
        5,
        "iPadOS",
        4.0,
        "Mozilla/5.0 (iPad; CPU OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.7 \
         Mobile/15E148 Safari/604.1",
    ),
    agent(
        "mobile",
        4,
        "Android",
        4.0,
        "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/26.0 \
         Chrome/122.0.0.0 Mobile Safari/537.36",
    ),
    agent(
        "ctv",
        3,
        "Tizen",
        2.0,
        "Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) Version/7.0 TV Safari/537.36",
    ),
];

/// Robots whose user agents say that they are robots.
pub const BOT_AGENTS: [Agent; 3] = [
    agent("desktop", 2, "unknown", 1.0, "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
    agent("desktop", 2, "unknown", 1.0, "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"),
    agent("desktop", 2, "unknown", 1.0, "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)"),
];
