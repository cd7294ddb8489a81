"use strict"

const args = require("./arguments.js")
const { usage } = require("./exit.js")
const help = require("./help.js")

const OPTIONS = {
    shared: { type: "boolean", short: "s" },
    exclusive: { type: "boolean", short: "x" },
    nonblock: { type: "boolean", short: "n" },
    timeout: { type: "string", short: "w" },
    "conflict-exit-code": { type: "string", short: "E" },
    close: { type: "boolean", short: "o" },
    grace: { type: "string" },
    // As timeout(1) has it.
    "kill-after": { type: "string" },
    verbose: { type: "boolean", short: "v" }
}

/** `ipc-mutex exec [options] <url> -- <command> [args...]` */
const exec = {
    name: "ipc-mutex",
    help: help.EXEC,
    read (given, speaker) {
        const { before, command } = args.atDashes(given)
        const { values, positionals } = args.parse(before, OPTIONS)
        const run = async () => {
            const checked = job(values, positionals, command)
            return require("./run-locked.js").runLocked(checked, speaker)
        }
        return { values, run }
    }
}

/** @returns {import("./run-locked.js").Job} */
function job (values, positionals, command) {
    if (command === undefined)
        throw usage("no command: write -- before it (see --help)")
    if (command.length === 0)
        throw usage("no command after -- (see --help)")
    if (values.shared && values.exclusive)
        throw usage("give --shared or --exclusive, not both")
    if (values.nonblock && values.timeout !== undefined)
        throw usage("give --nonblock or --timeout, not both")
    return {
        url: url(positionals),
        command,
        shared: values.shared ?? false,
        nonblock: values.nonblock,
        timeout: args.seconds(values.timeout, "--timeout"),
        conflict: args.exitCode(values["conflict-exit-code"], "--conflict-exit-code"),
        close: values.close,
        grace: args.seconds(values.grace, "--grace") ?? args.seconds(values["kill-after"], "--kill-after"),
        verbose: values.verbose
    }
}

/** The lock's URL: the one argument, or the environment's. */
function url (positionals) {
    if (positionals.length > 1)
        throw usage("more than one argument before the command: expected the lock's URL alone (see --help)")
    const text = positionals[0] ?? process.env.IPC_MUTEX_URL
    if (!text)
        throw usage("no lock: give its URL, or set IPC_MUTEX_URL (see --help)")
    return text
}

module.exports = { exec, url }
