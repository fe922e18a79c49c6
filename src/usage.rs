//! What `firmcastd` may be asked for, as a table: `--help` prints it, and its man page is made of
//! it.

/// What the program is for, in a sentence.
pub const PURPOSE: &str =
    "waits for a trusted manager's instruction to replace this machine's firmware";

/// Something that a command line may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// The words behind `firmcastd`.
    pub words: &'static str,
    /// What it does, in the infinitive.
    pub duty: &'static str,
}

/// All of them, in the order of their use.
pub const TASKS: [Task; 13] = [
    Task { words: "[--config FILE] [--foreground]", duty: "run the agent" },
    Task {
        words: "check [--config FILE] [--json]",
        duty: "tell whether this machine could be updated, and why not",
    },
    Task {
        words: "plan --bundle FILE [--config FILE] [--json]",
        duty: "tell what an update with this bundle would change, or why it cannot be",
    },
    Task {
        words: "validate [--image FILE] [--config FILE] [--json]",
        duty: "tell whether the firmware in the chip, or in FILE, is whole",
    },
    Task {
        words: "backup --output FILE [--config FILE]",
        duty: "write what the chip holds to FILE, and beside it what firmcast bundle try needs",
    },
    Task {
        words: "learn [--config FILE] [--json]",
        duty: "learn what the firmware of this board writes itself: run it at two boots",
    },
    Task {
        words: "rescue-archive [--output FILE] [--renew | --image FILE] [--config FILE]",
        duty: "write what the recovery environment needs when it comes up by itself",
    },
    Task {
        words: "bmc show [--json] | set --url URL | clear",
        duty: "tell, change or remove the manager's address in the BMC",
    },
    Task {
        words: "trusts [--config FILE]",
        duty: "tell whether a manager is trusted; firmcastd.service starts only then",
    },
    Task {
        words: "helper",
        duty: "do for the confined agent what needs privileges (firmcastd-helper.socket starts it)",
    },
    Task {
        words: "recover --resets-this-machine",
        duty: "be the recovery environment, as PID 1 of an initramfs is without a word",
    },
    Task {
        words: "rescue --hook",
        duty: "what the distribution's initramfs runs; does nothing without firmcast.recover, and \
               nothing elsewhere",
    },
    Task {
        words: "--help | --version | --formats",
        duty: "tell what there is, which version this is, which forms recovery must understand",
    },
];

/// An option, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct CommandOption {
    /// As it is written.
    pub words: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// The options that need a word.
pub const OPTIONS: [CommandOption; 4] = [
    CommandOption {
        words: "--config FILE",
        meaning: "settings, /etc/firmcast/agent.toml if not given; FIRMCAST_* in the environment \
                  wins",
    },
    CommandOption { words: "--foreground", meaning: "log to stderr even if that is no terminal" },
    CommandOption { words: "--json", meaning: "print the result as one JSON object" },
    CommandOption {
        words: "--renew",
        meaning: "record the firmware in the chip as good; with --image FILE that in FILE",
    },
];

/// Exit status, and what it says.
pub const EXIT_STATUS: [(u8, &str); 5] = [
    (0, "all well (check, plan: an update could start; validate: valid)"),
    (1, "failed (check, plan: something is in the way; validate: invalid)"),
    (2, "wrong usage"),
    (3, "validate: unknown; learn: another boot is needed"),
    (75, "the agent was told by SIGHUP to read its settings again: start it anew"),
];

/// The text of `--help`.
pub fn help() -> String {
    let mut text = format!("firmcastd {PURPOSE}.\n\nUsage:\n");
    for Task { words, duty } in TASKS {
        text += &format!("  firmcastd {words}\n        {duty}\n");
    }
    text += "\nOptions:\n";
    for CommandOption { words, meaning } in OPTIONS {
        text += &format!("  {words:<15} {meaning}\n");
    }
    text += "\nExit status:\n";
    for (status, meaning) in EXIT_STATUS {
        text += &format!("  {status}  {meaning}\n");
    }
    text
}
