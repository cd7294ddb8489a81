/**
 * The function that connects a contender: `(target) => client`, where a client has
 * `lock(id)`, which gives (a promise of) `{ acquire (), release () }`, and maybe `close()`.
 * @param {{ file: string, name: string }} contender a file of benches/contenders/ and what it exports
 */
export async function connector ({ file, name }) {
    const module = await import(new URL(`../contenders/${file}.mjs`, import.meta.url))
    if (typeof module[name] !== "function")
        throw new Error(`benches/contenders/${file}.mjs has no ${name}`)
    return module[name]
}
