-- What the auditor reads beyond the trail: who may connect from where.
grant select on pg_catalog.pg_hba_file_rules to pandom_auditor;
grant execute on function pg_catalog.pg_hba_file_rules() to pandom_auditor;
