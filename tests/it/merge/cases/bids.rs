//! Bid requests: which records belong to one auction, and what their prices mean.

use super::*;

fn bid(auction: &str, time: i64) -> RawBidRequest {
    RawBidRequest {
        auction_id: text(auction),
        user_id: text("u1"),
        event_time: START + time,
        site: Some(Site { domain: text("a.example"), ..Site::default() }),
        device: Some(Device {
            devicetype: Some(5),
            geo: Some(Geo { country: text("USA"), ..Geo::default() }),
            ..Device::default()
        }),
        ..RawBidRequest::default()
    }
}

fn imps(ids: &[&str]) -> Option<Vec<Imp>> {
    Some(ids.iter().map(|id| Imp { id: text(id), ..Imp::default() }).collect())
}

/// Our bid in campaign c1 at this price, won or lost. If it is won, it clears at half the price.
fn outcome(row: RawBidRequest, price_micros: i64, won: Option<bool>) -> RawBidRequest {
    let clearing = (won == Some(true)).then_some(price_micros / 2);
    RawBidRequest {
        campaign_id: text("c1"),
        bid_price: Some(i128::from(price_micros) * 1_000_000),
        enriched_bid_price_micros: Some(price_micros),
        clearing_price: clearing.map(|micros| i128::from(micros) * 1_000_000),
        enriched_clearing_price_micros: clearing,
        won,
        ..row
    }
}

fn bid_rows() -> Vec<Arriving> {
    rows![
        // Two imps. The bid is for the second; the outcome comes a day later and without the
        // request.
        RawBidRequest { imp: imps(&["1", "2"]), ..bid("a1", 0) },
        outcome(RawBidRequest { imp_id: text("2"), site: None, device: None, ..bid("a1", DAY) }, 3_000_001, Some(true)),
        // A loss after a win: the win counts.
        outcome(RawBidRequest { imp: imps(&["1"]), ..bid("a2", 0) }, 2_000_000, Some(false)),
        outcome(bid("a2", HOUR), 4_000_000, Some(true)),
        outcome(bid("a2", 2 * HOUR), 6_000_000, Some(true)),
        // There is neither an imp nor an imp id, and the win has no price.
        RawBidRequest { won: Some(true), ..bid("a3", 0) },
        // There is no auction id: its content identifies it.
        bid("unknown", 0),
        bid("unknown", 0),
        bid("unknown", HOUR),
    ]
}

#[test]
fn bids_are_events_per_auction_and_imp() {
    case(bid_rows()).check(&[
        expect!("bid_requests" ["auction_id", "imp_id", "event_time", "campaign_id", "bid_price", "clearing_price",
                    "won", "country", "device_type"]
            ["a1", "1", "2026-10-23T00:00:00.000000Z", "NULL", "NULL", "NULL", "NULL", "US", "tablet"]
            ["a1", "2", "2026-10-23T00:00:00.000000Z", "c1", "3.000001", "1.5", "true", "US", "tablet"]
            ["a2", "1", "2026-10-23T00:00:00.000000Z", "c1", "4", "2", "true", "US", "tablet"]
            ["a3", "1", "2026-10-23T00:00:00.000000Z", "NULL", "NULL", "NULL", "true", "US", "tablet"]
            ["NULL", "1", "2026-10-23T00:00:00.000000Z", "NULL", "NULL", "NULL", "NULL", "US", "tablet"]
            ["NULL", "1", "2026-10-23T01:00:00.000000Z", "NULL", "NULL", "NULL", "NULL", "US", "tablet"]),
        expect!("campaign_daily" ["campaign_id", "bid_requests", "bids", "wins", "win_rate", "spend", "unpriced_events"]
            ["c1", "2", "2", "2", "1.0", "0", "0"]
            ["NULL", "4", "0", "1", "NULL", "0", "0"]),
        expect!("funnel" ["campaign_id", "stage", "events", "rate"]
            ["c1", "bids", "2", "NULL"] ["c1", "wins", "2", "1.0"] ["c1", "impressions", "0", "0.0"]
            ["c1", "viewable", "0", "NULL"] ["c1", "clicks", "0", "NULL"] ["c1", "conversions", "0", "NULL"]
            ["NULL", "bids", "0", "NULL"] ["NULL", "wins", "1", "NULL"] ["NULL", "impressions", "0", "0.0"]
            ["NULL", "viewable", "0", "NULL"] ["NULL", "clicks", "0", "NULL"] ["NULL", "conversions", "0", "NULL"]),
    ]);
}

#[test]
fn spend_may_come_from_the_won_bids() {
    let mut rows = bid_rows();
    rows.extend(rows![impression("i1", "u1", "c1", 0)]);
    let mut case = case(rows);
    case.display.spend_source = SpendSource::Bids;
    // CPM prices: 1.5 and 2 per mille.
    case.check(&[expect!("campaign_daily" ["campaign_id", "wins", "spend", "cpm", "unpriced_events"]
        ["c1", "2", "0.0035", "3.5", "0"]
        ["NULL", "1", "0", "NULL", "1"])]);
}
