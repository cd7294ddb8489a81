// Ports for the servers of tests.
//
// A server of a test is stopped and started again on its port, so the port must not be given to anybody meanwhile:
// it lies below the range from which the kernel takes the ports of outgoing connections, and a file in a folder that
// all test processes of the machine share says who has it.
import { createServer } from "node:net"
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from "node:fs"
import { randomInt } from "node:crypto"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { alive } from "./processes.mjs"
import { guardPath, unguard } from "./reaper.mjs"

const FIRST = 20000
const BEYOND = 32000
const folder = join(tmpdir(), "ipc-mutex-test-ports")

/** Takes a free loopback port, which no other test process gets until it is given back or this process has ended. */
export async function takePort () {
    mkdirSync(folder, { recursive: true, mode: 0o777 })
    for (let tries = 0; tries < 1000; tries++) {
        const port = randomInt(FIRST, BEYOND)
        if (!reserve(port))
            continue
        if (await bindable(port))
            return port
        returnPort(port)
    }
    throw new Error(`no free port between ${FIRST} and ${BEYOND}`)
}

/** Gives back a port that `takePort` gave. */
export function returnPort (port) {
    const path = join(folder, String(port))
    rmSync(path, { force: true })
    unguard(path)
}

function reserve (port) {
    const path = join(folder, String(port))
    try {
        const file = openSync(path, "wx")
        writeSync(file, String(process.pid))
        closeSync(file)
        guardPath(path)
        return true
    }
    catch (error) {
        if (error.code !== "EEXIST")
            throw error
    }
    // a reservation outlives its process if that was killed; it is cleared here and can be taken at the next try
    try {
        const owner = Number(readFileSync(path, "utf8"))
        if (owner > 0 && !alive(owner))
            rmSync(path, { force: true })
    }
    catch (error) {
        if (error.code !== "ENOENT")
            throw error
    }
    return false
}

function bindable (port) {
    return new Promise((resolve) => {
        const server = createServer()
        server.once("error", () => resolve(false))
        server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)))
    })
}
