-- Whether the server's log is archived, how old the newest backup is and the last drill that
-- passed (before the first one: how long there are backups), and whether the last one failed, as
-- the trail says.
select
    case
        when a.last_failed_time > coalesce(a.last_archived_time, '-infinity')
            then a.last_failed_wal
    end as failing,
    (
        select now() - max(s.timestamp) from public.security_logs as s
        where s.event_type = 'backup_made'
    ) as backup_age,
    now() - coalesce(
        (
            select max(s.timestamp) from public.security_logs as s
            where s.event_type = 'drill_passed'
        ),
        (
            select min(s.timestamp) from public.security_logs as s
            where s.event_type = 'backup_made'
        )
    ) as drill_age,
    coalesce((
        select s.event_type = 'drill_failed' from public.security_logs as s
        where s.event_type in ('drill_passed', 'drill_failed')
        order by s.timestamp desc
        limit 1
    ), false) as drill_failed
from pg_catalog.pg_stat_archiver as a;
