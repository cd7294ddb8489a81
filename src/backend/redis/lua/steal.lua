-- Takes the lock from whoever has it, before all who wait. Put behind queue.lua.
--
-- KEYS     as in words.lua
-- ARGV[1]  owner     ARGV[2]  fenced, 1 or 0     ARGV[3]  ttl (ms)     ARGV[4]  info (JSON)
-- returns  { microseconds of the server's clock, { 'held', token or '-' } }. Asked again by an owner that still has the lock it finds that.
--
-- Those who had it are told "<owner> stolen" over the channel of their process. A 1.1.2 process cannot be told: its key is
-- overwritten.

local owner, fenced, ttl, info = unpack(ARGV)

if state == 'exclusive' and holder == owner then
    call('PEXPIRE', MAIN, ttl)
    return { text(micros), { 'held', token } }
end

local losers = {}
if state == 'exclusive' then
    losers = { holder }
elseif state == 'shared' then
    losers = call('ZRANGE', READERS, 0, -1)
end
-- Before anybody is let in: what has run out meanwhile is not handed on.
take_exclusive(owner, mint(fenced, micros), ttl, info)
-- Ends the readers' entries.
settle()
for _, loser in ipairs(losers) do
    call('PUBLISH', 'IPC-Mutex-rpm:ipc-mutex:' .. string.match(loser, '^[^-]*'), loser .. ' stolen')
end
-- What the first waiter knows of the time that the holder has left is no longer true.
first_changed = true
tell_first({})
return { text(micros), { 'held', token } }
