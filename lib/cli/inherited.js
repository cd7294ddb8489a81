"use strict"

const fs = require("node:fs")
const os = require("node:os")
const path = require("node:path")

/*
 * What a program hands on to its children, and Node.js takes back when it starts: open files, and signals that are ignored. Loaded before
 * this program opens anything itself.
 */

const IGNORABLE = [ "SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM" ]

/** The numbers of the descriptors above 2 that this process was started with. Linux only. */
const descriptors = (() => {
    const open = links("self").filter(([ number ]) => number > 2)
    // Both ends of a pipe are here: it is one of Node.js, or a pool such as that of make, which a process before this one has too.
    const isPair = (target) => target.startsWith("pipe:") && open.filter(([ , other ]) => other === target).length > 1
    let known
    const isOwn = (target) => target.startsWith("anon_inode:") || /^\/proc\/\d+\/fd$/.test(target) ||
        (isPair(target) && !(known ??= ofAncestors()).has(target))
    return open.filter(([ , target ]) => !isOwn(target)).map(([ number ]) => number)
})()

/** What a process has open: pairs of a number and a name. */
function links (pid) {
    const folder = `/proc/${pid}/fd`
    try {
        return fs.readdirSync(folder).flatMap((name) => {
            try {
                return [ [ Number(name), fs.readlinkSync(`${folder}/${name}`) ] ]
            }
            catch {
                return [] // closed meanwhile
            }
        })
    }
    catch {
        return []
    }
}

function ofAncestors () {
    const names = new Set()
    for (let pid = process.ppid; pid > 0; pid = Number(status(pid, "PPid")))
        for (const [ , target ] of links(pid))
            names.add(target)
    return names
}

/** What Linux says of a process; empty if it says nothing. */
function status (pid, field) {
    try {
        return fs.readFileSync(`/proc/${pid}/status`, "latin1").match(new RegExp(`^${field}:\\s*(.*)`, "m"))?.[1] ?? ""
    }
    catch {
        return ""
    }
}

/**
 * The signals that this process was told to ignore, as far as that can still be known: by `nohup`, which the shell has named as the last
 * command, or by a shell script that ignores them itself. Other parents and interactive shells ignore signals for reasons of their own.
 */
const ignored = (() => {
    const names = new Set(path.basename(process.env._ ?? "") === "nohup" ? [ "SIGHUP" ] : [])
    if (/^(ba|da|a|k|z)?sh$/.test(status(process.ppid, "Name"))) {
        const bits = BigInt(`0x${status(process.ppid, "SigIgn") || 0}`)
        const isIgnored = (name) => (bits >> BigInt(os.constants.signals[name] - 1) & 1n) === 1n
        if (!isIgnored("SIGTTOU"))
            for (const name of IGNORABLE.filter(isIgnored))
                names.add(name)
    }
    return [ ...names ]
})()

module.exports = { descriptors, ignored }
