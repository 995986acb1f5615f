-- Large objects escape row security: no login but the superuser may make one.
revoke execute on function pg_catalog.lo_creat(integer) from public;
revoke execute on function pg_catalog.lo_create(oid) from public;
revoke execute on function pg_catalog.lo_from_bytea(oid, bytea) from public;
revoke execute on function pg_catalog.lo_open(oid, integer) from public;
revoke execute on function pg_catalog.lo_put(oid, bigint, bytea) from public;
revoke execute on function pg_catalog.lo_get(oid) from public;
revoke execute on function pg_catalog.lo_get(oid, bigint, integer) from public;
revoke execute on function pg_catalog.lo_unlink(oid) from public;
revoke execute on function pg_catalog.lowrite(integer, bytea) from public;
revoke execute on function pg_catalog.loread(integer, integer) from public;
revoke execute on function pg_catalog.lo_truncate(integer, integer) from public;
revoke execute on function pg_catalog.lo_truncate64(integer, bigint) from public;
