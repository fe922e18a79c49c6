-- What differs between the databases stands in braces: see dialect.rs.
CREATE TABLE hosts (
    name {text} NOT NULL PRIMARY KEY,
    key {text} NOT NULL UNIQUE,
    addresses {text} NOT NULL, -- JSON: a list
    vendor {text} NOT NULL,
    product {text} NOT NULL,
    bios_version {text} NOT NULL,
    agent_version {text} NOT NULL,
    security_version_floor BIGINT NOT NULL,
    labels {text} NOT NULL -- JSON: an object
);

CREATE TABLE releases (
    digest {text} NOT NULL PRIMARY KEY,
    version {text} NOT NULL,
    security_version BIGINT NOT NULL,
    vendor {text} NOT NULL,
    products {text} NOT NULL, -- JSON: a list
    size_bytes BIGINT NOT NULL,
    added_at BIGINT NOT NULL,
    is_whole BIGINT NOT NULL -- 1 when all chunks of the bundle are here
);

-- The bundles of the releases.
CREATE TABLE chunks (
    release {text} NOT NULL REFERENCES releases (digest),
    number BIGINT NOT NULL,
    bytes {bytes} NOT NULL,
    PRIMARY KEY (release, number)
);

-- What hosts foresee of a release: one row for each of both.
CREATE TABLE foresights (
    host {text} NOT NULL REFERENCES hosts (name) ON DELETE CASCADE,
    release {text} NOT NULL REFERENCES releases (digest) ON DELETE CASCADE,
    from_version {text} NOT NULL, -- void when the host has another one
    typical_s BIGINT NOT NULL,
    longest_s BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (release, host)
);

CREATE INDEX foresights_hosts ON foresights (host);

CREATE TABLE rollouts (
    id {id},
    name {text} NOT NULL UNIQUE,
    release {text} NOT NULL REFERENCES releases (digest),
    file {text} NOT NULL,
    plan_digest {text} NOT NULL,
    limits {text} NOT NULL, -- JSON: an object
    state {text} NOT NULL,
    reason {text} NOT NULL,
    created_by {text} NOT NULL,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    round BIGINT NOT NULL -- how often it was resumed: limits of failures count anew each time
);

CREATE TABLE waves (
    rollout BIGINT NOT NULL REFERENCES rollouts (id),
    number BIGINT NOT NULL,
    name {text} NOT NULL,
    state {text} NOT NULL,
    approval {text} NOT NULL,
    soak_s BIGINT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (rollout, number)
);

CREATE TABLE approvals (
    rollout BIGINT NOT NULL,
    wave BIGINT NOT NULL,
    key {text} NOT NULL,
    signature {text} NOT NULL,
    by_whom {text} NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (rollout, wave, key),
    FOREIGN KEY (rollout, wave) REFERENCES waves (rollout, number)
);

-- Hosts of one site that count in the same domains: what limits say of one, they say of all.
CREATE TABLE cohorts (
    rollout BIGINT NOT NULL REFERENCES rollouts (id),
    number BIGINT NOT NULL,
    site {text} NOT NULL,
    domains {text} NOT NULL, -- JSON: a list
    PRIMARY KEY (rollout, number)
);

CREATE INDEX cohorts_sites ON cohorts (rollout, site);

-- What limits count. Changed together with the attempts, by who holds the rollout.
CREATE TABLE domains (
    rollout BIGINT NOT NULL REFERENCES rollouts (id),
    key {text} NOT NULL, -- JSON: the domain
    planned BIGINT NOT NULL,
    in_flight BIGINT NOT NULL,
    confirmed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    unreachable BIGINT NOT NULL,
    PRIMARY KEY (rollout, key)
);

CREATE TABLE attempts (
    id {id},
    rollout BIGINT NOT NULL,
    wave BIGINT NOT NULL,
    position BIGINT NOT NULL,
    host {text} NOT NULL REFERENCES hosts (name),
    site {text} NOT NULL,
    cohort BIGINT NOT NULL,
    predicted_s BIGINT NOT NULL,
    retry BIGINT NOT NULL,
    state {text} NOT NULL,
    stage {text},
    worker {text},
    lease_until BIGINT,
    reason {text},
    flash {text},
    detail {text} NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    drain {text} NOT NULL, -- how far its drain programs are
    round BIGINT NOT NULL, -- of the rollout, when it ended
    look {text} NOT NULL, -- what the last look came to; empty before
    look_at BIGINT,
    look_reason {text},
    look_detail {text},
    FOREIGN KEY (rollout, wave) REFERENCES waves (rollout, number),
    FOREIGN KEY (rollout, cohort) REFERENCES cohorts (rollout, number),
    UNIQUE (rollout, host, retry)
);

-- No host is twice in flight, in all rollouts together.
CREATE UNIQUE INDEX attempts_in_flight ON attempts (host) WHERE state = 'in-flight';
-- Whose lease ran out?
CREATE INDEX attempts_leases ON attempts (site, lease_until) WHERE state = 'in-flight';
-- Who is next?
CREATE INDEX attempts_planned ON attempts (site, rollout, wave, position, id)
    WHERE state = 'planned';
-- Who is looked at?
CREATE INDEX attempts_unseen ON attempts (site, rollout, wave, position, id)
    WHERE state = 'confirmed' AND look <> 'healthy';
-- Page after page.
CREATE INDEX attempts_places ON attempts (rollout, wave, position, id);
-- What became of a host?
CREATE INDEX attempts_hosts ON attempts (host, id);

CREATE TABLE events (
    id {id},
    at BIGINT NOT NULL,
    rollout BIGINT,
    host {text},
    by_whom {text} NOT NULL,
    kind {text} NOT NULL,
    detail {text} NOT NULL
);

-- What happened in a rollout, and on a host, looked back at.
CREATE INDEX events_rollouts ON events (rollout, id);
CREATE INDEX events_hosts ON events (host, id) WHERE host IS NOT NULL;

-- How many leases were lost?
CREATE INDEX events_leases ON events (id) WHERE kind = 'lease-lost';
-- How many drain programs failed?
CREATE INDEX events_drains ON events (id) WHERE kind = 'ended' AND detail = 'failed: drain-failed';
CREATE INDEX events_undrains ON events (id) WHERE kind = 'undrain-failed';

CREATE TABLE workers (
    name {text} NOT NULL PRIMARY KEY,
    site {text} NOT NULL,
    seen_at BIGINT NOT NULL,
    waits_for {text} NOT NULL, -- a bundle, in words; empty when it has all that it needs
    lacking {text} NOT NULL -- JSON: a list of digests of releases
);

-- Dead hosts that call a worker for help.
CREATE TABLE calls (
    worker {text} NOT NULL,
    host {text} NOT NULL REFERENCES hosts (name) ON DELETE CASCADE,
    heard_at BIGINT NOT NULL,
    facts {text} NOT NULL, -- JSON: an object
    PRIMARY KEY (worker, host)
);

CREATE INDEX calls_heard ON calls (heard_at);

CREATE TABLE webhooks (
    id {id},
    name {text} NOT NULL UNIQUE,
    url {text} NOT NULL,
    source {text} NOT NULL,
    kinds {text} NOT NULL, -- JSON: a list
    secrets {text} NOT NULL, -- JSON: a list
    created_by {text} NOT NULL,
    created_at BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    trouble {text} NOT NULL
);

-- Who delivers to the webhooks, one at a time.
CREATE TABLE senders (
    role {text} NOT NULL PRIMARY KEY,
    holder {text} NOT NULL,
    lease_until BIGINT NOT NULL
);
