//! What the generator knows of an event before it encodes the event.
//!
//! An event is small and holds no text. Ids are numbers, which the encoders spell out. What does
//! not change from event to event is in the [`World`](crate::world::World).

use adlake_domain::event::EventKind;

use crate::random::mix;

/// An event that is about to be sent, and the records that it has.
#[derive(Debug, Clone)]
pub struct Event {
    pub copies: Copies,
    pub body: Body,
}

/// How many records an event has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// One.
    Single,
    /// Two that are equal.
    Duplicate,
    /// Two that differ in content; the smaller one wins.
    Conflict,
    /// A bid request, and later its outcome.
    Split,
}

/// An event of one of the three kinds.
#[derive(Debug, Clone)]
pub enum Body {
    Impression(Impression),
    Interaction(Interaction),
    Bid(Bid),
}

impl Body {
    /// Its kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Body::Impression(_) => EventKind::Impression,
            Body::Interaction(_) => EventKind::Interaction,
            Body::Bid(_) => EventKind::BidRequest,
        }
    }

    /// Its number, the same in every copy, distinct among its kind.
    pub fn number(&self) -> u64 {
        match self {
            Body::Impression(event) => event.number,
            Body::Interaction(event) => event.number,
            Body::Bid(event) => event.number,
        }
    }

    /// Its user; `None` if it is unknown.
    pub fn user(&self) -> Option<u32> {
        match self {
            Body::Impression(event) => Some(event.user).filter(|_| event.known_user),
            Body::Interaction(event) => Some(event.user),
            Body::Bid(event) => Some(event.user),
        }
    }

    /// When it happened, µs.
    pub fn time(&self) -> i64 {
        match self {
            Body::Impression(event) => event.time,
            Body::Interaction(event) => event.time,
            Body::Bid(event) => event.time,
        }
    }
}

/// An ad was shown.
#[derive(Debug, Clone)]
pub struct Impression {
    pub number: u64,
    pub user: u32,
    /// Whether its user is known; otherwise it sends "unknown".
    pub known_user: bool,
    pub creative: u32,
    pub website: u32,
    pub time: i64,
    /// In the website's currency; `None` if it is not sent.
    pub cost_micros: Option<i64>,
    pub viewable: Option<bool>,
    pub view_time_ms: u32,
    /// Whether it has an id of its own.
    pub with_id: bool,
    /// Whether a bid request of the same number was sent.
    pub auction: bool,
}

/// A click, or a conversion.
#[derive(Debug, Clone)]
pub struct Interaction {
    pub number: u64,
    /// The number of the interaction whose order it is for: itself, or the purchase that is
    /// refunded.
    pub order: u64,
    pub user: u32,
    pub time: i64,
    pub campaign: u32,
    pub action: Action,
    pub creative: u32,
    /// The impression behind it, if it names one.
    pub impression: Option<u64>,
    pub with_id: bool,
    pub value_micros: i64,
    /// The index of the value's currency in the plan.
    pub currency: u8,
    pub quantity: u8,
}

/// The types of interaction that are generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Click,
    Visit,
    Signup,
    Purchase,
    Refund,
}

impl Action {
    /// Its `conversion_type`.
    pub fn name(self) -> &'static str {
        match self {
            Action::Click => "click",
            Action::Visit => "visit",
            Action::Signup => "signup",
            Action::Purchase => "purchase",
            Action::Refund => "refund",
        }
    }

    /// Whether an order identifies it. It has a value then.
    pub fn has_order(self) -> bool {
        matches!(self, Action::Purchase | Action::Refund)
    }
}

/// A bid request, with our bid if we made one.
#[derive(Debug, Clone)]
pub struct Bid {
    pub number: u64,
    pub user: u32,
    pub website: u32,
    pub time: i64,
    /// One or two.
    pub imps: u8,
    pub width: u16,
    pub height: u16,
    pub tmax: u16,
    pub bid: Option<OurBid>,
    /// Whether this record is the request, the outcome, or both.
    pub part: Part,
}

/// What a record carries of a bid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    Request,
    Outcome,
}

impl Bid {
    /// The bid that this record carries.
    pub fn carried(&self) -> Option<&OurBid> {
        self.bid.as_ref().filter(|_| self.part != Part::Request)
    }
}

/// Our bid, and its outcome.
#[derive(Debug, Clone)]
pub struct OurBid {
    /// The imp, counted from 1.
    pub imp: u8,
    pub creative: u32,
    /// CPM in micros of the website's currency.
    pub bid_micros: i64,
    /// CPM in micros; `None` if the auction was lost.
    pub clearing_micros: Option<i64>,
}

/// What an id identifies. Ids of different kinds differ even for the same number.
#[derive(Debug, Clone, Copy)]
pub enum Id {
    Impression,
    Auction,
    Event,
    Order,
}

/// The id of a number: a bijection for each kind of id.
pub fn id(seed: u64, of: Id, number: u64) -> u64 {
    let salt = match of {
        Id::Impression => 0x11,
        Id::Auction => 0x22,
        Id::Event => 0x33,
        Id::Order => 0x44,
    };
    mix(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(seed.wrapping_add(salt)))
}
