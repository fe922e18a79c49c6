//! The agent against a scripted manager, without network, clock or computer.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::flash::Estimate;
use crate::image::{Description, Manifest, PayloadFormat, SignedManifest};
use crate::keys::{ManagerSecretKey, ReleaseSecretKey, SecretKey as _};
use crate::reason::FlashState;
use crate::session::discovery::{Discovery, Said};
use crate::wire::answer::Phase;
use crate::wire::command::MANIFEST_PART_SIZE_MAX;
use crate::wire::samples;
use proptest::collection::vec;
use proptest::prelude::*;

const CAMPAIGN: u64 = 0xca;
const HOST: &str = "192.0.2.10:9847";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A computer that refuses what it is told to refuse and counts what happens to it.
#[derive(Debug, Default)]
struct TestSystem {
    obstacle: Option<Refusal>,
    prepared: Vec<(u64, SocketAddr, u16, String)>,
    abandoned: u32,
    measured: u32,
    programs_run: bool,
}

impl HostSystem for TestSystem {
    fn identity(&mut self, _asker: SocketAddr) -> Identity {
        let obstacle = self.obstacle.clone().unwrap_or(Refusal::new(Reason::None, ""));
        Identity {
            obstacle: obstacle.reason,
            obstacle_detail: obstacle.detail,
            host_name: "node17".into(),
            ..samples::identity()
        }
    }

    fn prepare(&mut self, order: &UpdateOrder<'_>) -> Result<Option<PieceSet>, Refusal> {
        self.obstacle.clone().map_or(Ok(()), Err)?;
        let version = order.manifest.version().to_owned();
        self.prepared.push((order.campaign, order.manager_address, order.reach_timeout_s, version));
        Ok(PieceSet::all_of(1))
    }

    fn abandon(&mut self) {
        self.abandoned += 1;
    }

    fn holds_measurement(&self) -> bool {
        self.programs_run
    }

    fn measure(&mut self, campaign: u64, _: &VerifiedManifest) -> Measurement {
        self.measured += 1;
        Measurement {
            campaign,
            matches: true,
            stable_digest: [3; 32],
            boot_id: [1; 16],
            bios_version: "2".into(),
            bios_vendor: "V".into(),
            detail: String::new(),
            programs: None,
        }
    }

    fn foresee(&mut self, _: &UpdateOrder<'_>) -> (Result<Outlook, Refusal>, Vec<Finding>) {
        self.measured += 1;
        let estimate = Estimate { typical_ms: 1, longest_ms: 2 };
        let outlook = Outlook {
            blocks: 512,
            changed_blocks_max: 7,
            estimate,
            doubt: Some("at 0x10: odd".into()),
        };
        (Ok(outlook), Vec::new())
    }
}

/// An agent, and the managers that it trusts.
struct World {
    now: Time,
    agent: Agent,
    system: TestSystem,
    host: PeerKey,
    managers: Vec<Manager>,
    manifest: Vec<u8>,
}

struct Manager {
    secret: ManagerSecretKey,
    endpoint: Endpoint,
    address: SocketAddr,
}

impl Manager {
    fn new(secret: ManagerSecretKey, number: u8) -> Self {
        let mut endpoint = Endpoint::new(*secret.exchange(), [number + 10; 32]);
        endpoint.set_stamp(1_000_000);
        Self { secret, endpoint, address: SocketAddr::from(([192, 0, 2, number], 4000)) }
    }
}

impl World {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let release = ReleaseSecretKey::generate(&mut rng);
        let host = HostSecretKey::generate(&mut rng);
        let host_public = *host.public().exchange();
        let managers: Vec<Manager> =
            (1..3).map(|n| Manager::new(ManagerSecretKey::generate(&mut rng), n)).collect();
        let trusted = managers.iter().map(|manager| manager.secret.public()).collect();
        let agent = Agent::new(host, trusted, vec![release.public()], [9; 32]);
        let mut world = Self {
            now: Time::ZERO,
            agent,
            system: TestSystem::default(),
            host: host_public,
            managers,
            manifest: signed_manifest(&release, "2.0"),
        };
        (0..2).for_each(|manager| world.connect(manager));
        world
    }

    /// Carries datagrams between manager and agent until nothing is left; returns the answers.
    fn exchange(&mut self, manager: usize) -> Vec<Answer> {
        let mut answers = Vec::new();
        loop {
            let mut idle = true;
            while let Some(sent) = self.managers[manager].endpoint.poll_transmit() {
                idle = false;
                let from = self.managers[manager].address;
                self.agent.handle_datagram(self.now, from, &sent.bytes, &mut self.system);
            }
            while let Some(sent) = self.agent.poll_transmit() {
                idle = false;
                assert_eq!(sent.to, self.managers[manager].address);
                let endpoint = &mut self.managers[manager].endpoint;
                let event = endpoint.handle_datagram(self.now, address(HOST), &sent.bytes);
                if let Some(SessionEvent::Message { bytes, .. }) = event {
                    answers.push(Answer::parse(&bytes).unwrap());
                }
            }
            if idle {
                return answers;
            }
        }
    }

    fn connect(&mut self, manager: usize) {
        self.managers[manager].endpoint.connect(self.now, self.host, address(HOST));
        self.exchange(manager);
        assert!(self.managers[manager].endpoint.is_connected(&self.host));
    }

    fn tell(&mut self, manager: usize, command: &Command) -> Answer {
        assert!(self.managers[manager].endpoint.send(self.now, &self.host, &command.emit()));
        let mut answers = self.exchange(manager);
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    fn send_manifest(&mut self, manager: usize, campaign: u64) {
        let manifest = self.manifest.clone();
        for (part, bytes) in manifest.chunks(MANIFEST_PART_SIZE_MAX).enumerate() {
            let offset_bytes = (part * MANIFEST_PART_SIZE_MAX) as u32;
            let held_bytes = offset_bytes + bytes.len() as u32;
            let total_bytes = manifest.len() as u32;
            let bytes = bytes.to_vec();
            let part = Command::ManifestPart { campaign, total_bytes, offset_bytes, bytes };
            assert_eq!(self.tell(manager, &part), Answer::ManifestHeld { campaign, held_bytes });
        }
    }

    fn begin(&mut self, manager: usize, campaign: u64) -> (Phase, Reason) {
        let accepted = Acceptance::default();
        let (reach_timeout_s, transfer_timeout_s) = (300, 60);
        let drill = false;
        let begin =
            Command::Begin { campaign, reach_timeout_s, transfer_timeout_s, accepted, drill };
        match self.tell(manager, &begin) {
            Answer::Report(report) => {
                assert_eq!(
                    (report.campaign, report.ending.flash),
                    (campaign, FlashState::UNTOUCHED)
                );
                (report.phase, report.ending.reason)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn signed_manifest(release: &ReleaseSecretKey, version: &str) -> Vec<u8> {
    let description = Description {
        version: version.into(),
        security_version: 1,
        vendor: "V".into(),
        products: vec!["P".into()],
        ..Description::default()
    };
    let image = vec![0x5a; 4 << 20];
    let manifest = Manifest::describe(description, &image, PayloadFormat::Raw, &image).unwrap();
    SignedManifest::sign(&manifest, release).unwrap()
}

#[test]
fn an_order_is_prepared_once_and_recovery_entered_after_the_answer() {
    let mut world = World::new();
    world.send_manifest(0, CAMPAIGN);
    assert!(world.manifest.len() > MANIFEST_PART_SIZE_MAX, "the manifest takes several parts");
    assert_eq!(world.begin(0, CAMPAIGN), (Phase::Accepted, Reason::None));
    assert_eq!(world.agent.poll_action(), Some(Action::EnterRecovery));
    assert_eq!(world.agent.poll_action(), None);

    assert_eq!(world.begin(0, CAMPAIGN), (Phase::Accepted, Reason::None));
    assert_eq!(world.agent.poll_action(), None);
    let address = world.managers[0].address;
    assert_eq!(world.system.prepared, [(CAMPAIGN, address, 300, "2.0".to_owned())]);

    world.send_manifest(1, 0xcb);
    assert_eq!(world.begin(1, 0xcb), (Phase::Refused, Reason::Busy));
    assert_eq!(world.system.abandoned, 0);

    world.now += ENTERING_LIFETIME;
    assert_eq!(world.begin(1, 0xcb), (Phase::Accepted, Reason::None));
    assert_eq!(world.system.abandoned, 1);
}

#[test]
fn a_refusal_leaves_the_host_as_it_was() {
    let mut world = World::new();
    assert_eq!(world.begin(0, CAMPAIGN), (Phase::Refused, Reason::ManifestIncomplete));
    world.system.obstacle = Some(Refusal::new(Reason::FlashLocked, "3 of 512 eraseblocks"));
    world.send_manifest(0, CAMPAIGN);
    assert_eq!(world.begin(0, CAMPAIGN), (Phase::Refused, Reason::FlashLocked));
    assert_eq!(world.agent.poll_action(), None);
    match world.tell(0, &Command::Query) {
        Answer::Identity(identity) => assert_eq!(identity.obstacle, Reason::FlashLocked),
        other => panic!("{other:?}"),
    }
    // An instruction that was sent twice finds nobody who waits for what comes of it.
    world.system.obstacle = None;
    assert_eq!(world.begin(0, CAMPAIGN), (Phase::Refused, Reason::FlashLocked));
    assert_eq!(world.agent.poll_action(), None);
    world.send_manifest(0, CAMPAIGN + 1);
    assert_eq!(world.begin(0, CAMPAIGN + 1), (Phase::Accepted, Reason::None));
}

#[test]
fn a_manifest_of_a_stranger_is_refused_and_may_be_sent_again() {
    let mut world = World::new();
    let good = world.manifest.clone();
    let stranger = ReleaseSecretKey::generate(&mut ChaCha20Rng::from_seed([8; 32]));
    world.manifest = signed_manifest(&stranger, "2.0");
    world.send_manifest(0, CAMPAIGN);
    assert_eq!(world.begin(0, CAMPAIGN), (Phase::Refused, Reason::ManifestUntrusted));
    world.manifest = vec![0; 3000];
    world.send_manifest(0, CAMPAIGN);
    assert_eq!(world.begin(0, CAMPAIGN), (Phase::Refused, Reason::ManifestMalformed));
    let measure = Command::Measure { campaign: CAMPAIGN };
    assert!(matches!(world.tell(0, &measure), Answer::Report(_)));
    assert_eq!(world.system.measured, 0);

    world.manifest = good;
    world.send_manifest(0, CAMPAIGN);
    assert!(matches!(world.tell(0, &measure), Answer::Measurement(_)));
    // What was verified before says nothing about other bytes under the same number.
    world.manifest = vec![0; 3000];
    world.send_manifest(0, CAMPAIGN);
    assert_eq!(world.begin(0, CAMPAIGN), (Phase::Refused, Reason::ManifestMalformed));
}

#[test]
fn recovery_that_cannot_be_entered_or_is_released_is_taken_back() {
    let mut world = World::new();
    world.send_manifest(0, CAMPAIGN);
    world.begin(0, CAMPAIGN);
    assert_eq!(world.agent.poll_action(), Some(Action::EnterRecovery));
    let refusal = Refusal::new(Reason::KexecUnavailable, "systemctl failed");
    world.agent.recovery_failed(world.now, &refusal, &mut world.system);
    let told = world.exchange(0);
    assert!(matches!(&told[..], [Answer::Report(report)]
            if report.ending.reason == Reason::KexecUnavailable));
    assert_eq!(world.system.abandoned, 1);
    assert_eq!(world.begin(0, CAMPAIGN), (Phase::Refused, Reason::KexecUnavailable));

    const NEXT: u64 = CAMPAIGN + 1;
    world.send_manifest(0, NEXT);
    assert_eq!(world.begin(0, NEXT), (Phase::Accepted, Reason::None));
    let foreign = world.tell(1, &Command::Release { campaign: NEXT });
    assert!(matches!(foreign, Answer::Report(report) if report.phase == Phase::Idle));
    assert_eq!(world.system.abandoned, 1, "another manager ends nothing");
    world.tell(0, &Command::Release { campaign: NEXT });
    assert_eq!((world.system.abandoned, world.agent.poll_action()), (2, None));
    assert_eq!(world.begin(0, NEXT), (Phase::Refused, Reason::ManifestIncomplete));
}

#[test]
fn a_host_on_its_way_into_a_campaign_is_not_home_for_others() {
    const OTHER: u64 = CAMPAIGN + 1;
    let mut world = World::new();
    world.send_manifest(0, CAMPAIGN);
    assert_eq!(world.begin(0, CAMPAIGN), (Phase::Accepted, Reason::None));
    world.send_manifest(1, OTHER);
    let accepted = Acceptance::default();
    let commands =
        [Command::Measure { campaign: OTHER }, Command::Foresee { campaign: OTHER, accepted }];
    for command in &commands {
        let Answer::Report(report) = world.tell(1, command) else { panic!("no report") };
        assert_eq!((report.phase, report.ending.reason), (Phase::Refused, Reason::Busy));
    }
    assert_eq!(world.system.measured, 0);
    world.now += ENTERING_LIFETIME;
    world.connect(1);
    for command in &commands {
        assert!(!matches!(world.tell(1, command), Answer::Report(_)));
    }
}

#[test]
fn a_measurement_waits_for_programs_and_is_asked_for_again() {
    let mut world = World::new();
    world.send_manifest(0, CAMPAIGN);
    world.system.programs_run = true;
    let measure = Command::Measure { campaign: CAMPAIGN };
    let said = world.tell(0, &measure);
    assert!(matches!(said, Answer::Report(report) if report.phase == Phase::Idle));
    world.system.programs_run = false;
    assert!(matches!(world.tell(0, &measure), Answer::Measurement(_)));
    assert_eq!(world.system.measured, 1);
}

#[test]
fn the_chip_is_read_once_for_repeated_questions() {
    let mut world = World::new();
    world.send_manifest(0, CAMPAIGN);
    let measure = Command::Measure { campaign: CAMPAIGN };
    for _ in 0..3 {
        assert!(matches!(world.tell(0, &measure), Answer::Measurement(found) if found.matches));
    }
    assert_eq!(world.system.measured, 1);
    world.now += MEASUREMENT_LIFETIME;
    world.tell(0, &measure);
    assert_eq!(world.system.measured, 2);
}

#[test]
fn commands_for_recovery_are_not_possible_in_the_normal_os() {
    let mut world = World::new();
    match world.tell(0, &Command::Commit { campaign: CAMPAIGN }) {
        Answer::Report(report) => assert_eq!(report.ending.reason, Reason::NotPossibleNow),
        other => panic!("{other:?}"),
    }
}

#[test]
fn discovery_is_answered_and_everything_else_met_with_silence() {
    let mut world = World::new();
    let discovery = Discovery::new(&world.managers[0].secret, 5, [4; 16]);
    let from = address("198.51.100.7:999");
    world.agent.handle_datagram(world.now, from, &discovery.request(), &mut world.system);
    let answer = world.agent.poll_transmit().unwrap();
    assert_eq!(answer.to, from);
    let (key, said) = discovery.open(&world.managers[0].secret, &answer.bytes).unwrap();
    let Said::Identity(identity, _) = said else { panic!("{said:?}") };
    assert_eq!((*key.exchange(), identity.host_name.as_str()), (world.host, "node17"));

    let stranger = ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([6; 32]));
    let mut stranger = Manager::new(stranger, 3);
    stranger.endpoint.connect(world.now, world.host, address(HOST));
    let call = stranger.endpoint.poll_transmit().unwrap();
    world.agent.handle_datagram(world.now, from, &call.bytes, &mut world.system);
    assert_eq!(world.agent.poll_transmit(), None);
}

proptest! {
    #[test]
    fn any_datagram_and_any_message_are_survived(
        datagrams in vec(vec(any::<u8>(), 0..1400), 0..20),
        messages in vec(vec(any::<u8>(), 1..1000), 0..20),
    ) {
        let mut world = World::new();
        for datagram in datagrams {
            let mut typed = datagram.clone();
            if let [first, second, ..] = typed.as_mut_slice() {
                (*first, *second) = (*first % 8, 1);
            }
            for bytes in [datagram, typed] {
                world.agent.handle_datagram(world.now, address(HOST), &bytes, &mut world.system);
                prop_assert_eq!(world.agent.poll_transmit(), None);
            }
        }
        for mut message in messages {
            message[0] %= 9;
            let host = world.host;
            world.managers[0].endpoint.send(world.now, &host, &message);
            world.exchange(0);
        }
        prop_assert!(world.system.prepared.is_empty());
        prop_assert_eq!(world.agent.poll_action(), None);
    }
}
