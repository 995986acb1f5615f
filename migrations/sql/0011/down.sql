-- Takes back: the trail is sealed as fast as before its limits.
set local role pandom_owner;
