//! Tells the kind of event that a file holds by the names of the file and its folders.
//!
//! A name consists of words. Words are separated by `_`, dots, spaces, digits and all other
//! characters that are neither letters nor hyphens. A word tells a kind in three cases: it is one
//! of the kind's own words (`clicks`); it is hyphenated and its first part is such a word
//! (`clicks-eu`, `bid-requests`); or it is hyphenated and its last part is such a word in the
//! plural (`ad-impressions`).
//!
//! Of the file and its folders, the nearest one that tells a kind counts. A kind's word elsewhere
//! in a hyphenated word (`double-click`, `click` in `one-click-buy`) is mostly part of a proper
//! name. It counts only if nothing else tells a kind.

use adlake_domain::event::EventKind;

/// The kind that a canonical path or a URI tells, and the part of it (the name of the file or of a
/// folder) that tells it.
pub fn from_name(path: &str) -> Option<(EventKind, &str)> {
    let tells = |how: fn(&str) -> Option<EventKind>| {
        path.rsplit(['/', '\\']).find_map(|part| {
            let name = part.to_lowercase();
            let mut words = name.split(|c: char| !c.is_alphabetic() && c != '-');
            words.find_map(|word| how(word.trim_matches('-'))).map(|kind| (kind, part))
        })
    };
    tells(by_word).or_else(|| tells(by_any_part))
}

fn by_word(word: &str) -> Option<EventKind> {
    let mut parts = word.split('-');
    let last = parts.clone().next_back().filter(|last| last.ends_with('s'));
    kind_of(parts.next()?).or_else(|| kind_of(last?))
}

fn by_any_part(word: &str) -> Option<EventKind> {
    word.split('-').find_map(kind_of)
}

fn kind_of(word: &str) -> Option<EventKind> {
    match word {
        "impression" | "impressions" | "imps" => Some(EventKind::Impression),
        "interaction" | "interactions" | "click" | "clicks" | "conversion" | "conversions" => {
            Some(EventKind::Interaction)
        }
        "bid" | "bids" | "bidrequest" | "bidrequests" | "auction" | "auctions" => Some(EventKind::BidRequest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_whole_word_tells_the_kind() {
        const IMPRESSIONS: Option<EventKind> = Some(EventKind::Impression);
        const INTERACTIONS: Option<EventKind> = Some(EventKind::Interaction);
        const BIDS: Option<EventKind> = Some(EventKind::BidRequest);
        let table = [
            // The names of the default topics, and similar names.
            ("ad-impressions.json", IMPRESSIONS),
            ("clicks-conversions-2026-01-01.csv", INTERACTIONS),
            ("bid-requests.avro", BIDS),
            ("ad_impressions.json", IMPRESSIONS),
            ("clicks_conversions.csv", INTERACTIONS),
            ("bid_requests.avro", BIDS),
            ("2026-03-01-clicks.csv", INTERACTIONS),
            ("Click Report.csv", INTERACTIONS),
            ("us-east-1-impressions-0.ndjson.gz", IMPRESSIONS),
            ("acme-impressions.json", IMPRESSIONS),
            ("export.conversions.2026.csv", INTERACTIONS),
            // The nearest part of the path counts.
            ("impressions/2026/clicks-1.csv.gz", INTERACTIONS),
            ("clicks/ad-impressions.json", IMPRESSIONS),
            ("impressions/part-0001.json", IMPRESSIONS),
            ("Bids/part-0001.json", BIDS),
            ("s3://bucket/clicks/dt=2026-03-01/part-0.json", INTERACTIONS),
            // Part of a hyphenated word does not count as a word.
            ("impressions/double-click-x.ndjson", IMPRESSIONS),
            ("impressions/google-double-click.ndjson", IMPRESSIONS),
            ("bid-requests/one-click-buy.json", BIDS),
            ("double-click-x.ndjson", INTERACTIONS),
            ("double-click/impressions/x.json", IMPRESSIONS),
            ("impressions/double-click/x.json", IMPRESSIONS),
            // Nor does part of a word.
            ("AdImpressions2026/part-0.json", None),
            ("forbidden/data.csv", None),
            ("préclicks.csv", None),
            ("data.csv", None),
        ];
        for (path, expected) in table {
            assert_eq!(from_name(path).map(|(kind, _)| kind), expected, "{path}");
        }
        assert_eq!(from_name("a/Clicks 2026/x.csv"), Some((EventKind::Interaction, "Clicks 2026")));
    }
}
