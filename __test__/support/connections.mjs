// Who is connected to a loopback port, as the kernel sees it. Linux only; elsewhere nobody seems to be.
import { readFileSync, readdirSync, readlinkSync } from "node:fs"
import { descendants } from "./processes.mjs"

const ESTABLISHED = 0x01

/**
 * The number of TCP connections to `ports`, seen from the server's side, those excepted that one of the processes
 * `servers` (or a descendant of theirs) has made to itself.
 */
export function foreignConnections (ports, servers) {
    const sockets = [ ...table("/proc/net/tcp"), ...table("/proc/net/tcp6") ]
    const accepted = sockets.filter((socket) => ports.includes(socket.local) && socket.state === ESTABLISHED)
    if (accepted.length === 0)
        return 0
    const own = new Set(servers.flatMap((pid) => [ pid, ...descendants(pid) ]).flatMap(inodes))
    const initiators = new Map(sockets.filter((socket) => ports.includes(socket.peer)).map((socket) => [ `${socket.local} ${socket.peer}`, socket.inode ]))
    return accepted.filter((socket) => !own.has(initiators.get(`${socket.peer} ${socket.local}`))).length
}

function table (path) {
    let text
    try {
        text = readFileSync(path, "latin1")
    }
    catch {
        return []
    }
    const port = (address) => parseInt(address.slice(address.lastIndexOf(":") + 1), 16)
    return text.trim().split("\n").slice(1).map((line) => line.trim().split(/\s+/))
        .map((fields) => ({ local: port(fields[1]), peer: port(fields[2]), state: parseInt(fields[3], 16), inode: fields[9] }))
}

function inodes (pid) {
    try {
        return readdirSync(`/proc/${pid}/fd`).flatMap((name) => {
            try {
                return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${name}`))?.[1] ?? []
            }
            catch {
                return [] // closed meanwhile
            }
        })
    }
    catch {
        return [] // the process has ended
    }
}
