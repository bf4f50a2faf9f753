//! Bounds what somebody who has no key can cost: requests per address, and memory for bodies.

use std::net::IpAddr;

use axum::body::Body;
use http::HeaderMap;
use service::client_address::TrustedProxies;
use service::rate_limit::{AddressLimits, Rate};
use service::receive::{ReceiveMemory, Received};

use crate::config::Config;
use crate::error::Error;

/// All addresses together may send as many times as much as one.
const ADDRESSES: u32 = 10;

/// The bounds of this gateway.
#[derive(Debug)]
pub(crate) struct AnonymousLimits {
    proxies: TrustedProxies,
    rates: AddressLimits,
    /// GHL sends many webhooks, and consents must not use up what they have.
    webhooks: AddressLimits,
    memory: ReceiveMemory,
}

impl AnonymousLimits {
    pub(crate) fn new(config: &Config) -> Self {
        let rate = config.anonymous_rate;
        Self {
            proxies: config.trusted_proxies.clone(),
            rates: AddressLimits::new(rate, rate.times(ADDRESSES)),
            webhooks: AddressLimits::new(rate.times(ADDRESSES), rate.times(ADDRESSES * ADDRESSES)),
            memory: ReceiveMemory::new(config.receive_memory),
        }
    }

    /// Uses another rate from now on.
    pub(crate) fn set_rate(&self, rate: Rate) {
        let all = rate.times(ADDRESSES);
        self.rates.set(rate, all);
        self.webhooks.set(all, rate.times(ADDRESSES * ADDRESSES));
    }

    /// The address of the caller, as far as it can be believed.
    pub(crate) fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.proxies.client(peer, headers)
    }

    /// Counts a request.
    pub(crate) fn count(&self, address: IpAddr) -> Result<(), Error> {
        self.rates.count(address).map_err(Error::AnonymousRate)
    }

    /// Counts a webhook, until it turns out to be GHL's.
    pub(crate) fn count_webhook(&self, address: IpAddr) -> Result<(), Error> {
        self.webhooks.count(address).map_err(Error::AnonymousRate)
    }

    /// The webhook was GHL's.
    pub(crate) fn refund_webhook(&self, address: IpAddr) {
        self.webhooks.refund(address);
    }

    /// Receives a body of at most `limit` bytes.
    pub(crate) async fn receive(
        &self,
        body: Body,
        limit: u64,
        from: IpAddr,
    ) -> Result<Received, Error> {
        Ok(self.memory.receive(body, limit, from).await?)
    }
}
