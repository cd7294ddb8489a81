"use strict"

const args = require("./arguments.js")
const { usage } = require("./exit.js")
const { main } = require("./program.js")
const help = require("./help.js")

/*
 * The two commands that know a lock by its database and its name.
 */

const DB = { db: { type: "string" } }

/** The lock's URL. @param {{ db?: string }} values */
function url ({ db }, name) {
    // An empty one leaves the rest to the PG* variables.
    const connectionString = db || process.env.PG_CONNECTION_STRING || db
    if (connectionString === undefined)
        throw usage("no database: set PG_CONNECTION_STRING, or give --db (see --help)")
    return require("../adapters/advisory-lock/index.js").mutexUrl(connectionString, name)
}

const run = (lock, command, speaker) => require("./run-locked.js").runLocked({ url: lock, command }, speaker)

/** `withlock <lockName> [--db <connectionString>] -- <command>` */
const withlock = {
    name: "withlock",
    help: help.WITHLOCK,
    read (given, speaker) {
        const { before, command } = args.atDashes(given)
        const { values, positionals } = args.parse(before, DB)
        const start = async () => {
            if (positionals.length === 0)
                throw usage("no lock: give its name (see --help)")
            if (positionals.length > 1)
                throw usage("more than one argument before --: expected the lock's name alone (see --help)")
            if (command === undefined || command.length === 0)
                throw usage("no command: write -- and the command behind the lock's name (see --help)")
            return run(url(values, positionals[0]), command, speaker)
        }
        return { values, run: start }
    }
}

/** `pgmutex [--db <connectionString>] [--name <lock>] <command> [args...]` */
const pgmutex = {
    name: "pgmutex",
    help: help.PGMUTEX,
    read (given, speaker) {
        const { before, command } = args.atCommand(given, [ "--db", "--name" ])
        const { values } = args.parse(before, { ...DB, name: { type: "string" } })
        const start = async () => {
            if (command.length === 0)
                throw usage("no command (see --help)")
            return run(url(values, values.name ?? pathName(command[0])), command, speaker)
        }
        return { values, run: start }
    }
}

/** The command's path as it is written, with the separators of all other systems also on Windows. */
const pathName = (file) => process.platform === "win32" ? file.replaceAll("\\", "/") : file

module.exports = { withlock: (given) => main(withlock, given), pgmutex: (given) => main(pgmutex, given) }
