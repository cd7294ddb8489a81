// The one table of prebuilt platforms, and the packages made from it:
//   node scripts/platforms.mjs             writes npm/<platform>/ for every row
//   node scripts/platforms.mjs --check     fails if npm/, package.json and Cargo.toml do not agree
//   node scripts/platforms.mjs --publish   also names the platform packages in package.json as optionalDependencies.
// The last is for the release workflow only: in the repository they are absent, because `npm install` in a fresh clone
// would ask the registry for packages of a version that is not published yet.
import { existsSync, mkdirSync, readFileSync, readdirSync, realpathSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { root } from "./cargo.mjs"

/** Every platform with a prebuilt binary: `id` as in lib/platform.js, `target` as rustc calls it. */
export const platforms = [
    { id: "linux-x64-gnu", target: "x86_64-unknown-linux-gnu", os: "linux", cpu: "x64", libc: "glibc" },
    { id: "linux-x64-musl", target: "x86_64-unknown-linux-musl", os: "linux", cpu: "x64", libc: "musl" },
    { id: "linux-arm64-gnu", target: "aarch64-unknown-linux-gnu", os: "linux", cpu: "arm64", libc: "glibc" },
    { id: "linux-arm64-musl", target: "aarch64-unknown-linux-musl", os: "linux", cpu: "arm64", libc: "musl" },
    { id: "darwin-x64", target: "x86_64-apple-darwin", os: "darwin", cpu: "x64" },
    { id: "darwin-arm64", target: "aarch64-apple-darwin", os: "darwin", cpu: "arm64" },
    { id: "win32-x64-msvc", target: "x86_64-pc-windows-msvc", os: "win32", cpu: "x64" },
    { id: "win32-arm64-msvc", target: "aarch64-pc-windows-msvc", os: "win32", cpu: "arm64" }
]

/** The file that holds the addon for platform `id`, in the top folder and in its package alike. */
export const binaryName = (id) => `ipc-mutex.${id}.node`

/** What goes with the binary into its package: our licence, and those of what is linked into it. */
export const LICENCES = [ "LICENSE", "THIRD-PARTY-NOTICES.txt" ]

/** The folder of platform `id`'s package. */
export const packageFolder = (id) => join(root, "npm", id)

const read = (path) => readFileSync(join(root, path), "utf8")
const json = (value) => JSON.stringify(value, null, 4) + "\n"

/** path -> content of every file that the table stands for. */
function generated () {
    const main = JSON.parse(read("package.json"))
    const files = new Map()
    for (const { id, target, os, cpu, libc } of platforms) {
        const name = `${main.name}-${id}`
        files.set(`npm/${id}/package.json`, json({
            name,
            version: main.version,
            description: `The native core of ${main.name} for ${target}`,
            license: main.license,
            author: main.author,
            repository: main.repository,
            bugs: main.bugs,
            homepage: main.homepage,
            engines: main.engines,
            os: [ os ],
            cpu: [ cpu ],
            ...(libc ? { libc: [ libc ] } : {}),
            main: binaryName(id),
            files: [ binaryName(id), ...LICENCES ]
        }))
        files.set(`npm/${id}/README.md`,
            `# ${name}\n\nThe native core of \`${main.name}\` for \`${target}\`. It is installed together with \`${main.name}\`, ` +
            "which is the package to depend on.\n")
    }
    return files
}

/** What does not agree, one sentence each. */
export function disagreements () {
    const found = []
    const files = generated()
    for (const [ path, content ] of files)
        if (!existsSync(join(root, path)) || read(path) !== content)
            found.push(`${path} is not what scripts/platforms.mjs makes`)
    for (const folder of readdirSync(join(root, "npm")))
        if (!files.has(`npm/${folder}/package.json`))
            found.push(`npm/${folder} is not in the table of scripts/platforms.mjs`)
    const { version } = JSON.parse(read("package.json"))
    const crate = read("Cargo.toml").match(/^version = "(.*)"$/m)?.[1]
    if (crate !== version)
        found.push(`Cargo.toml says version ${crate}, package.json ${version}`)
    return found
}

function write () {
    for (const [ path, content ] of generated()) {
        mkdirSync(join(root, path, ".."), { recursive: true })
        writeFileSync(join(root, path), content)
    }
}

function nameForPublishing () {
    const main = JSON.parse(read("package.json"))
    main.optionalDependencies = Object.fromEntries(platforms.map(({ id }) => [ `${main.name}-${id}`, main.version ]))
    writeFileSync(join(root, "package.json"), json(main))
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
    if (!process.argv.includes("--check"))
        write()
    if (process.argv.includes("--publish"))
        nameForPublishing()
    const found = disagreements()
    for (const line of found)
        console.error(line)
    process.exitCode = found.length > 0 ? 1 : 0
}
