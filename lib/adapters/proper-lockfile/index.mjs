import lockfile from "./index.js"

export const { lock, unlock, check, lockSync, unlockSync, checkSync } = lockfile
export default lockfile
