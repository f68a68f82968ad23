//! Which kind of event a file holds, as its name and its folders tell.
//!
//! A name consists of words: what stands between `_`, dots, spaces, digits and other characters that are neither letters nor hyphens.
//! A word tells a kind if it is one of the kind's own words (`clicks`), or is put together with hyphens and has one of them as its
//! first part (`clicks-eu`, `bid-requests`), or in the plural as its last part (`ad-impressions`). Of file and folders the nearest that
//! tells a kind counts. A kind's word elsewhere in a hyphenated one (`double-click`, `click` in `one-click-buy`) is mostly part of a
//! proper name: it counts where nothing else tells a kind.

use adlake_domain::event::EventKind;

/// The kind that a canonical path or a URI tells, and the part of it (a file's or a folder's name) that does.
pub fn told(path: &str) -> Option<(EventKind, &str)> {
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
            // The names of the default topics, and names like them.
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
            // The nearest part of the path.
            ("impressions/2026/clicks-1.csv.gz", INTERACTIONS),
            ("clicks/ad-impressions.json", IMPRESSIONS),
            ("impressions/part-0001.json", IMPRESSIONS),
            ("Bids/part-0001.json", BIDS),
            ("s3://bucket/clicks/dt=2026-03-01/part-0.json", INTERACTIONS),
            // A part of a compound is no word of its own.
            ("impressions/double-click-x.ndjson", IMPRESSIONS),
            ("impressions/google-double-click.ndjson", IMPRESSIONS),
            ("bid-requests/one-click-buy.json", BIDS),
            ("double-click-x.ndjson", INTERACTIONS),
            ("double-click/impressions/x.json", IMPRESSIONS),
            ("impressions/double-click/x.json", IMPRESSIONS),
            // Neither is a part of a word.
            ("AdImpressions2026/part-0.json", None),
            ("forbidden/data.csv", None),
            ("préclicks.csv", None),
            ("data.csv", None),
        ];
        for (path, expected) in table {
            assert_eq!(told(path).map(|(kind, _)| kind), expected, "{path}");
        }
        assert_eq!(told("a/Clicks 2026/x.csv"), Some((EventKind::Interaction, "Clicks 2026")));
    }
}
