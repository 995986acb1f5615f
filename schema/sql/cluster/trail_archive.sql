-- Keeps the trail's rows when migrations below the trail are reverted. Only the superuser,
-- who owns the database, may create a schema.
create schema if not exists trail_archive;
alter schema trail_archive owner to pandom_trail;
revoke all on schema trail_archive from public;

comment on schema trail_archive is
'Keeps the rows of the trail while the schema is below the trail''s revision.';
