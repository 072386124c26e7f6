"""`python -m tests.support.counting_worker`: a real worker over the counting domain."""

from processor.settings import from_environment
from processor.worker import configure_logging, run
from tests.support.counting_domain import CountingDomain

if __name__ == "__main__":
    configure_logging("console")
    run(from_environment({}), CountingDomain())
