"""Generates a small table in the layout of the public Telco file; what it says about customers is made up."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

NAME = "Telco-Customer-Churn.csv"
HEADER = (
    "customerID,gender,SeniorCitizen,Partner,Dependents,tenure,PhoneService,MultipleLines,InternetService,"
    "OnlineSecurity,OnlineBackup,DeviceProtection,TechSupport,StreamingTV,StreamingMovies,Contract,PaperlessBilling,"
    "PaymentMethod,MonthlyCharges,TotalCharges,Churn\n"
)
PAYMENTS = ("Electronic check", "Mailed check", "Bank transfer (automatic)", "Credit card (automatic)")


def write(folder: Path, rows: int = 1500) -> None:
    chance = random.Random(7043)
    with (folder / NAME).open("w", newline="") as file:
        file.write(HEADER)
        csv.writer(file, lineterminator="\n").writerows(_customer(chance, number) for number in range(rows))


def _customer(chance: random.Random, number: int) -> list[object]:
    def yes_or_no(share: float = 0.5) -> str:
        return "Yes" if chance.random() < share else "No"

    tenure = min(72, int(chance.expovariate(1 / 30)))
    phone, internet = yes_or_no(0.9), chance.choice(("DSL", "Fiber optic", "Fiber optic", "No"))
    contract = chance.choice(("Month-to-month", "Month-to-month", "One year", "Two year"))
    extras = [yes_or_no(0.4) if internet != "No" else "No internet service" for _ in range(6)]
    monthly = 20 + {"No": 0, "DSL": 25, "Fiber optic": 50}[internet] + 5 * extras.count("Yes")
    odds = -1.2 - 0.04 * tenure + 0.02 * (monthly - 50) + (1.2 if contract == "Month-to-month" else -0.8)
    return [
        f"{number:04d}-MADEU",
        chance.choice(("Female", "Male")),
        int(chance.random() < 0.16),
        yes_or_no(),
        yes_or_no(0.3),
        tenure,
        phone,
        yes_or_no() if phone == "Yes" else "No phone service",
        internet,
        *extras,
        contract,
        yes_or_no(0.6),
        chance.choice(PAYMENTS),
        monthly,
        round(monthly * tenure * chance.uniform(0.95, 1.05), 2) if tenure else " ",
        "Yes" if chance.random() < 1 / (1 + math.exp(-odds)) else "No",
    ]
