"use strict"

const fs = require("node:fs")
const path = require("node:path")

/*
 * What a program hands on to its children, and Node.js takes back when it starts: open files, and signals that are ignored. Loaded before
 * this program opens anything itself.
 */

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
    for (let pid = process.ppid; pid > 0; pid = parent(pid))
        for (const [ , target ] of links(pid))
            names.add(target)
    return names
}

function parent (pid) {
    try {
        return Number(fs.readFileSync(`/proc/${pid}/status`, "latin1").match(/^PPid:\s*(\d+)/m)?.[1])
    }
    catch {
        return 0
    }
}

/** The signals that this process was told to ignore. Only the shell's word for its last command, `nohup`, is left of that. */
const ignored = path.basename(process.env._ ?? "") === "nohup" ? [ "SIGHUP" ] : []

module.exports = { descriptors, ignored }
