"use strict"

// Which prebuilt binary this process needs.

const fs = require("node:fs")

/** Every platform with a prebuilt binary. */
const PLATFORMS = [
    "linux-x64-gnu", "linux-x64-musl", "linux-arm64-gnu", "linux-arm64-musl", "darwin-x64", "darwin-arm64", "win32-x64-msvc", "win32-arm64-msvc"
]

/**
 * Which C library this Node.js was linked with, on Linux: `"gnu"` or `"musl"`. The program interpreter named in the head of
 * the executable says so within microseconds; the diagnostic report, which takes milliseconds, is asked only if it does not.
 * @returns {"gnu" | "musl"}
 */
function libc () {
    const head = Buffer.alloc(4096)
    try {
        const file = fs.openSync(process.execPath, "r")
        fs.readSync(file, head, 0, head.length, 0)
        fs.closeSync(file)
    }
    catch {
        // An unreadable executable is no reason to give up.
    }
    if (head.includes("/ld-musl-"))
        return "musl"
    if (head.includes("/ld-linux"))
        return "gnu"
    return process.report?.getReport()?.header?.glibcVersionRuntime ? "gnu" : "musl"
}

/**
 * The name of this platform in file and package names, such as `linux-x64-gnu`, `darwin-arm64` or `win32-x64-msvc`.
 * @returns {string}
 */
function platformId () {
    const { platform, arch } = process
    switch (platform) {
        case "linux": return `linux-${arch}-${libc()}`
        case "win32": return `win32-${arch}-msvc`
        default:      return `${platform}-${arch}`
    }
}

/**
 * The same for people: `linux x64 glibc`.
 * @returns {string}
 */
function platformInWords () {
    return platformId().replace(/-gnu$/, "-glibc").replace(/-msvc$/, "").replaceAll("-", " ")
}

module.exports = { PLATFORMS, platformId, platformInWords }
