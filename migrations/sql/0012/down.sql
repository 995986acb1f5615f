-- Takes back: Backups are events of the trail.
set local role pandom_owner;
