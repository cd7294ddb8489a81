import os from "node:os"

/** The kind of machine, in words that name nobody. */
export function machine () {
    const cpus = os.cpus().length
    return `Node ${process.versions.node}, ${os.type()} ${process.arch}, ${cpus} processor${cpus === 1 ? "" : "s"}, load ${os.loadavg()[0].toFixed(1)}`
}
