"""Items ranked for users: Amazon Kindle, the split of the files, beside EASE."""

from facts import paragraph
from sections import Floor, Section
from uses.job import Job, Measured, Method

CASE = "kindle"
VAEKIT, EASE = "vaekit, preset ratings", "EASE"
PUBLISHED = {"Mult-VAE, published": (0.0754, 0.0479), "DualVAE, published": (0.0812, 0.0512)}
WANTED = 0.0779, 0.0485
MOST_SECONDS = 300.0


def section(found: Measured) -> Section:
    names = {"recall at 20": 4, "ndcg at 20": 4, "cpu_seconds": 0, "peak_gb": 1}
    text = paragraph(
        f"""Amazon Kindle, the split of the DualVAE paper: {CASE}'s held-out items of the users that the models were
        trained on (weak generalisation), items seen in training left out of the ranking. Recall at 20 divides by the
        number of a user's held-out items. vaekit holds a tenth of the users back for validation and as many for tests,
        which count as users all the same; EASE (Steck, 2019, arXiv 1905.03375) is given the training items of all of
        them, with the L2 penalty that is best on a tenth of the training items held out. Published:
        {"; ".join(f"{name} {recall} and {ndcg}" for name, (recall, ndcg) in PUBLISHED.items())}."""
    )
    floors = [
        Floor("ratings: recall at 20", found.mean(VAEKIT, "recall at 20"), WANTED[0]),
        Floor("ratings: NDCG at 20", found.mean(VAEKIT, "ndcg at 20"), WANTED[1]),
        Floor("ratings: seconds of CPU", found.mean(VAEKIT, "cpu_seconds"), MOST_SECONDS, " s", most=True),
    ]
    return Section("Ratings", f"{text}\n\n{found.table(JOB.methods, names)}", floors)


JOB = Job(
    "ratings",
    (CASE,),
    {
        VAEKIT: Method("uses.ratings_methods:vaekit"),
        EASE: Method("uses.ratings_methods:ease", seeds=1),
    },
    section,
)
